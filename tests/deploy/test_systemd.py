"""The systemd unit: valid, closed to all that it does not need, and patient enough for replies to end."""

from __future__ import annotations

import configparser
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from deployment import DEPLOY, serve_options

FOLDER = DEPLOY / "systemd"
UNIT = FOLDER / "ilmari.service"
EXPOSURE = 20  # tenths of systemd's points: 15 is what the network and the missing MemoryDenyWriteExecute cost


def service() -> dict[str, str]:
    """The unit's [Service]; of settings that stand there twice, the last."""
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(UNIT, encoding="utf-8")
    return dict(unit["Service"])


@pytest.fixture
def analyze(tmp_path: Path) -> Path:
    """The unit, with a program that there is."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze; Debian's package systemd has it")
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/ilmari/bin/ilmari", sys.executable))
    return unit


def test_verify(analyze: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", analyze], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_security(analyze: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager", analyze]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_flags_and_the_time_to_end() -> None:
    lines = (FOLDER / "ilmari.env").read_text().splitlines()
    variables = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    program, verb, *flags = shlex.split(service()["ExecStart"].replace("$FLAGS", variables["FLAGS"]))
    assert (program, verb) == ("/opt/ilmari/bin/ilmari", "serve")
    options = serve_options(flags)
    assert options["model"] == ["${MODEL}"]
    assert str(options["api_key_file"]) == "%d/api-keys"
    assert int(service()["TimeoutStopSec"]) >= options["drain_timeout"] + 10
