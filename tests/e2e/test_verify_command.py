"""`ilmari verify`: an artifact as it was written, and one with each kind of damage in each of its files."""

import shutil
from pathlib import Path

import pytest
from checkpoints import CompileTiny
from commands import assert_refused, ilmari
from refusals import assert_one_error, ilmari_here

FILES = (
    "manifest.json",
    "kernels.o",
    "quantization.json",
    "params/rank0.safetensors",
    "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/chat_template.jinja",
)


@pytest.fixture
def artifact(compile_tiny: CompileTiny, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(compile_tiny("w8a16"), tmp_path / "copy"))


def test_whole(artifact: Path) -> None:
    assert {str(path.relative_to(artifact)) for path in artifact.rglob("*.*")} == set(FILES)
    result = ilmari("verify", artifact)
    assert result.returncode == 0
    start, size, end = result.stdout.partition("2.")
    assert start == f"{artifact}: {len(FILES)} files, "
    assert end.split(" ", 1)[1] == "MB, all as they were written\n", size
    assert result.stderr.startswith("verify: ")


@pytest.mark.parametrize("file", FILES)
def test_one_flipped_bit(artifact: Path, file: str) -> None:
    data = bytearray((artifact / file).read_bytes())
    data[len(data) // 2] ^= 1
    (artifact / file).write_bytes(data)
    result = ilmari_here("verify", artifact)
    assert_one_error(result, str(artifact / file), "compile the model again")
    assert result.stdout == ""


@pytest.mark.parametrize("file", FILES)
def test_truncated(artifact: Path, file: str) -> None:
    data = (artifact / file).read_bytes()
    (artifact / file).write_bytes(data[: len(data) // 2])
    assert_refused(ilmari_here("verify", artifact), str(artifact / file), "compile the model again")


@pytest.mark.parametrize("file", FILES)
def test_missing(artifact: Path, file: str) -> None:
    (artifact / file).unlink()
    expected = "is not a compiled model" if file == "manifest.json" else f"{artifact / file} is missing"
    assert_refused(ilmari_here("verify", artifact), expected)


def test_damage_is_noticed_by_those_who_run_it(artifact: Path) -> None:
    weights = artifact / "params/rank0.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    for command in (["verify"], ["generate", "--prompt", "x", "--model"]):
        assert_refused(ilmari(*command, artifact), str(weights), "altered")
