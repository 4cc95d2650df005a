"""On what, and with what, something was measured."""

import datetime
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ilmari.settings import num_threads

VERSIONS = ("ilmari", "apache-tvm", "numpy")


def provenance() -> dict[str, Any]:
    """`cpu`, `threads`, `date` (today's) and `versions`, for a result that others will read."""
    return {
        "cpu": _cpu_name(),
        "threads": num_threads(),
        "date": datetime.date.today().isoformat(),
        "versions": {name: version(name) for name in VERSIONS},
    }


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines() if cpuinfo.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
