"""`ilmari serve` with what cannot be served: exit code 2 and one sentence, before anybody is let in."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from checkpoints import CompileTiny
from damaged_artifact import MANIFEST, PARAMS
from refusals import assert_one_error, ilmari_here


@pytest.fixture(scope="module")
def artifact(compile_tiny: CompileTiny) -> Path:
    """A model of 256 tokens with a cache of float16: 16 blocks, 16 KiB each."""
    return compile_tiny("fp16")


def refused(artifact: Path, *flags: str | Path) -> str:
    result = ilmari_here("serve", "--model", artifact, "--port", "0", *flags)
    assert_one_error(result)
    assert result.stdout == ""
    return result.stderr


FLAGS = {
    "a cache of another dtype": (("--kv-cache-dtype", "int8"), "was compiled for float16"),
    "a length beyond the model's": (("--max-model-len", "257"), "was compiled for 256 tokens"),
    "a cache too small for one sequence": (("--kv-cache-memory-bytes", "262143"), "256 tokens of "),
    "a step too long": (("--max-num-batched-tokens", "16385"), "max_num_batched_tokens is 16385"),
    "a device for another rank": (("--devices", "0,1"), "names 2 devices for 1 ranks"),
    "hosts for one rank": (("--hosts", "a,b"), "--hosts is a,b"),
    "no such template": (("--chat-template", "absent.jinja"), "--chat-template absent.jinja cannot be read"),
}


@pytest.mark.parametrize(("flags", "word"), FLAGS.values(), ids=FLAGS)
def test_flags(artifact: Path, flags: tuple[str, ...], word: str) -> None:
    error = refused(artifact, *flags)
    assert word in error


def test_a_template_with_a_mistake(artifact: Path, tmp_path: Path) -> None:
    template = tmp_path / "mine.jinja"
    template.write_text("{% for m in messages %}\n{{ m.role }")
    error = refused(artifact, "--chat-template", template)
    assert "line 2" in error
    assert str(template) in error


def half_a_manifest(folder: Path) -> None:
    (folder / MANIFEST).write_bytes((folder / MANIFEST).read_bytes()[:100])


def other_weights(folder: Path) -> None:
    weights = bytearray((folder / PARAMS).read_bytes())
    weights[-1] ^= 1
    (folder / PARAMS).write_bytes(weights)


def no_kernels(folder: Path) -> None:
    (folder / "kernels.o").unlink()


@pytest.mark.parametrize("damage", [half_a_manifest, other_weights, no_kernels])
def test_damaged_artifacts(artifact: Path, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    copy = Path(shutil.copytree(artifact, tmp_path / "copy"))
    damage(copy)
    error = refused(copy)
    assert "copy" in error
