"""The siege of a server, short: nothing lost, leaked or mixed up, also where its engine dies."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from checkpoints import CompileTiny

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(("seconds", "kills"), [(12, 0), (12, 2)])
def test_siege(compile_tiny: CompileTiny, tmp_path: Path, seconds: int, kills: int) -> None:
    result, log = tmp_path / "soak.json", tmp_path / "server.log"
    model = compile_tiny("w8a16", lengths=(512, 1024), max_position=1024)  # tools take much of a prompt
    words = ["--model", model, "--minutes", str(seconds / 60), "--kill", str(kills)]
    command = [sys.executable, "-m", "benchmarks.serving.soak", *words, "--log", log, "--output", result]
    run = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, f"{run.stdout}\n{run.stderr}\n{log.read_text()[-5000:]}"
    (figures,) = json.loads(result.read_text()).values()
    assert len(figures["kills"]) == kills
    assert figures["by_status"]["200"] > 20
