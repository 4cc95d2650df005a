"""The demo model, small and trained on text, compiled in the cache.

python -m benchmarks.serving.setup_demo [CACHE]
"""

import subprocess
import sys
from pathlib import Path

from benchmarks.peers import cache

NAME = "smollm2-135m-int8-tp1-1024-2048"


def artifact(cache_folder: Path) -> Path:
    """The folder of the artifact, made by `ilmari demo` if it is not there yet."""
    folder = cache_folder / "demo"
    if not (folder / NAME).exists():
        command = [sys.executable, "-m", "ilmari", "demo", "--keep", str(folder), "--max-tokens", "1"]
        subprocess.run(command, check=True, stdout=sys.stderr)
    return folder / NAME


if __name__ == "__main__":
    print(artifact(cache.from_command_line()))
