"""Every environment variable that ilmari reads."""

import os
from pathlib import Path

from ilmari.errors import ConfigError

MAX_THREADS = 1024

CGROUP = Path("/sys/fs/cgroup")


def cache_dir() -> Path:
    """Where downloads are kept: `ILMARI_CACHE`, else the user's cache folder."""
    if path := os.environ.get("ILMARI_CACHE"):
        return Path(path)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ilmari"


def num_threads() -> int:
    """How many threads kernels use: `ILMARI_NUM_THREADS`, else the CPUs that this process may use, at most 1024.

    These are the CPUs it may run on, or fewer if its container has a quota (`docker run --cpus=2`).

    Raises:
        ConfigError: the variable is not an integer from 1 to 1024.
    """
    text = os.environ.get("ILMARI_NUM_THREADS")
    if not text:
        cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return min(cpus, _cpu_quota() or cpus, MAX_THREADS)
    if not (text.isascii() and text.isdecimal() and len(text) <= 9 and 1 <= int(text) <= MAX_THREADS):
        raise ConfigError(
            f"ILMARI_NUM_THREADS is {text!r}; set it to a positive number of threads, up to {MAX_THREADS}."
        )
    return int(text)


def set_num_threads(count: int) -> None:
    """Set what `num_threads` returns for the rest of this process; to be called before any kernel runs."""
    os.environ["ILMARI_NUM_THREADS"] = str(count)


def _cpu_quota() -> int | None:
    """CPUs' worth of time that the control group grants, rounded up; None without a limit.

    Version 2 has `cpu.max` with "max 100000" or "200000 100000": microseconds of running in a period, and the period;
    version 1 has a file for each, and -1 for no limit.
    """
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            quota, period = map(int, " ".join((CGROUP / name).read_text() for name in names).split())
        except (OSError, ValueError):  # another version, or "max"
            continue
        if quota > 0 and period > 0:
            return -(-quota // period)
    return None
