"""`ilmari demo`: real weights, a real answer, and nothing left behind that was not asked for."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import yaml
from commands import ILMARI, STORED, assert_refused, ilmari, run

pytestmark = pytest.mark.demo_model

ARTIFACTS = {dtype: f"smollm2-135m-{dtype}-tp1-1024-2048" for dtype in ("int8", "fp16")}


@pytest.fixture
def offline(demo_gguf: Path, tmp_path: Path) -> dict[str, str]:
    """An environment with the weights in its cache, no network for pip, and a temporary folder of its own."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    return {
        **os.environ,
        "ILMARI_CACHE": str(demo_gguf.parent),
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "TMPDIR": str(temporary),
    }


@pytest.fixture
def stored(kernels_compiled_once: Path) -> tuple[str, ...]:
    """The command, which takes kernels from the store."""
    return (*STORED, str(kernels_compiled_once), "ilmari")


def test_keep(stored: tuple[str, ...], offline: dict[str, str], tmp_path: Path) -> None:
    keep = tmp_path / "kept here"
    for dtype, artifact in ARTIFACTS.items():
        result = run(stored, "demo", "--keep", keep, "--dtype", dtype, env=offline)
        assert result.returncode == 0
        answer = result.stdout.lower()
        assert "gravity is" in answer
        assert any(word in answer for word in ("mass", "force", "spacetime"))
        assert f"$ ilmari compile '{keep}/demo_{dtype}.yaml'" in result.stderr
        assert f"$ ilmari chat --model '{keep}/{artifact}'" in result.stderr
        assert "> What is gravity?" in result.stderr
        assert " tokens/s" in result.stderr
        assert f"1. {'write' if dtype == 'int8' else 'use'} SmolLM2-135M-Instruct" in result.stderr
        assert ("convert the demo weights: " in result.stderr) == (dtype == "int8"), "the second run has a checkpoint"
        assert yaml.safe_load((keep / f"demo_{dtype}.yaml").read_text())["backend"]["dtype"] == dtype
    assert {path.name for path in keep.iterdir()} == {
        "checkpoint",
        "demo_int8.yaml",
        "demo_fp16.yaml",
        *ARTIFACTS.values(),
    }
    said = ilmari(
        "chat", "--model", keep / ARTIFACTS["int8"], "--temperature", "0", stdin=b"What is the capital of France?"
    )
    assert "Paris" in said.stdout
    assert ilmari("verify", keep / ARTIFACTS["int8"]).returncode == 0


def test_nothing_is_left(stored: tuple[str, ...], offline: dict[str, str], tmp_path: Path) -> None:
    result = run(stored, "demo", "--prompt", "What is the capital of France?", "--max-tokens", "7", env=offline)
    assert result.stdout == "The capital of France is Paris.\n"
    assert "Nothing was kept; `ilmari demo --keep DIR`" in result.stderr
    assert list((tmp_path / "temporary").iterdir()) == []


def test_nothing_is_left_after_ctrl_c(offline: dict[str, str], tmp_path: Path) -> None:
    with subprocess.Popen([*ILMARI, "demo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=offline) as process:
        assert process.stderr is not None
        while not process.stderr.readline().startswith(b"2. compile"):
            pass
        assert list((tmp_path / "temporary").iterdir())
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (130, b"")
    assert errors.endswith(b"interrupted\n")
    assert list((tmp_path / "temporary").iterdir()) == []


def test_mistakes(offline: dict[str, str], tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert_refused(
        ilmari("demo", "--keep", tmp_path / "file", env=offline), f"--keep {tmp_path / 'file'} cannot be made"
    )
    shutil.copytree(tiny_checkpoint, tmp_path / "mine" / "checkpoint")
    refused = ilmari("demo", "--keep", tmp_path / "mine", env=offline)
    assert_refused(refused, f"{tmp_path / 'mine' / 'checkpoint'} is there already, and not from the demo")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["checkpoint"]
    assert_refused(ilmari("demo", "--max-tokens", "0", env=offline), "max_tokens is 0")
