"""This machine and what it can do at best."""

import os

from ilmari.bench.ceilings import Ceilings
from ilmari.bench.machine import provenance


def cpu_name() -> str:
    """As the system calls it."""
    return str(provenance()["cpu"])


class Machine:
    """Measures the ceilings on `threads` threads."""

    def __init__(self, threads: int) -> None:
        os.environ["ILMARI_NUM_THREADS"] = str(threads)
        self._ceilings = Ceilings()

    def rates(self) -> dict[str, float | None]:
        """`read_gb_s`, and `<instruction>_gmac_s` for instructions that multiply and add: one sample of each."""
        return self._ceilings.sample().fields()
