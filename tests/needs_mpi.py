"""What tests with real ranks need."""

import importlib.util
import shutil
import sysconfig
from pathlib import Path

import pytest

MPIEXEC = Path(sysconfig.get_path("scripts")) / "mpiexec"

needs_mpi = pytest.mark.skipif(
    importlib.util.find_spec("mpi4py") is None or not (MPIEXEC.exists() or shutil.which("mpiexec")),
    reason="MPI is absent: pip install 'ilmari[mpi]'",
)


def mpiexec(ranks: int) -> list[str]:
    """The start of a command of so many ranks."""
    return [str(MPIEXEC if MPIEXEC.exists() else "mpiexec"), "-n", str(ranks)]
