"""Every environment variable that ilmari reads."""

import os
from pathlib import Path

from ilmari.errors import ConfigError


def cache_dir() -> Path:
    """Where downloads are kept: `ILMARI_CACHE`, else the user's cache folder."""
    if path := os.environ.get("ILMARI_CACHE"):
        return Path(path)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ilmari"


def num_threads() -> int:
    """How many threads kernels use: `ILMARI_NUM_THREADS`, else the CPUs this process may run on.

    Raises:
        ConfigError: the variable is not a positive integer.
    """
    text = os.environ.get("ILMARI_NUM_THREADS")
    if not text:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not text.isdigit() or int(text) == 0:
        raise ConfigError(f"ILMARI_NUM_THREADS is {text!r}; set it to a positive number of threads.")
    return int(text)
