"""The CPUs that this process may use, as the system describes them."""

import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
TOPOLOGY = Path("/sys/devices/system/cpu")


def usable_cpus() -> list[int]:
    """Numbers of the CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def cores() -> list[int]:
    """One usable CPU, the first, of each physical core; all of them where the system does not say which share one."""
    first = {_siblings(cpu): cpu for cpu in reversed(usable_cpus())}
    return sorted(first.values())


def core_of(cpu: int) -> int:
    """The first CPU of the physical core that a CPU belongs to."""
    numbers = _siblings(cpu).removeprefix("cpu").replace("-", ",").split(",")
    return int(numbers[0])


def _siblings(cpu: int) -> str:
    """A text that hardware threads of one core have in common, such as "0,8"."""
    try:
        return (TOPOLOGY / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text()
    except OSError:
        return f"cpu{cpu}"


def cpu_quota() -> int | None:
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
