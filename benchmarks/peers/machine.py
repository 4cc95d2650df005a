"""This machine and what it can do at best."""

import os
import platform
from pathlib import Path

from benchmarks.ceilings import Ceilings
from ilmari.kernels.library import _load_runtime


def cpu_name() -> str:
    """As Linux calls it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


class Machine:
    """Measures the ceilings on `threads` threads."""

    def __init__(self, threads: int) -> None:
        os.environ["ILMARI_NUM_THREADS"] = str(threads)
        _load_runtime()  # which gives the thread pool its size; nothing else in this process does
        self._ceilings = Ceilings()

    def rates(self) -> dict[str, float]:
        """`read_gb_s`, and `<instruction>_gmac_s` for instructions that multiply and add: one sample of each."""
        return {"read_gb_s": self._ceilings.read_gb_s(), "int8_gmac_s": self._ceilings.int8_gmac_s()}
