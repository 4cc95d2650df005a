"""The folder that keeps builds, environments and models, so that a second run reuses them."""

import sys
from pathlib import Path

from ilmari.settings import cache_dir

DEFAULT = cache_dir() / "peers"


def from_command_line() -> Path:
    """The one argument of a setup script, or the default."""
    return Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else DEFAULT
