"""Recipes that cannot be compiled: exit code 2, one sentence, and no artifact."""

from collections.abc import Callable
from pathlib import Path

import pytest
from commands import ilmari
from refusals import Workplace, assert_one_error, ilmari_here


@pytest.fixture
def workplace(tmp_path: Path, tiny_checkpoint: Path) -> Workplace:
    return Workplace.make(tmp_path, tiny_checkpoint)


OVERRIDES: dict[str, tuple[str, tuple[str, ...]]] = {
    "unknown key": (
        "frontend.chekpoint=here",
        ("--set frontend.chekpoint", "unknown key `frontend.chekpoint`", "did you mean `frontend.checkpoint`"),
    ),
    "missing key": (
        "frontend.shape=null",
        ("`frontend.shape.input_ids` is missing", "[[longest prompt], [longest sequence]]"),
    ),
    "wrong type": ("backend.dtype=16", ("`backend.dtype` is 16 (an integer)", "expected fp16, bf16 or int8")),
    "tensor parallel": (
        "frontend.model_kwargs.tp=4",
        ("`frontend.model_kwargs.tp` is 4", "does not divide the 2 key-value heads", "align_qkv: true"),
    ),
    "fp16 by GPTQ": (
        "frontend.quantize.type=w8a16_gptq",
        ("`backend.dtype` is fp16", "`frontend.quantize.type` is w8a16_gptq", "set `backend.dtype: int8`"),
    ),
    "lengths of no step": (
        "frontend.shape.input_ids=[[20],[64]]",
        ("`frontend.shape.input_ids` is [[20], [64]]", "multiples of 16", "such as [[16], [64]]"),
    ),
    "prompt beyond the sequence": (
        "frontend.shape.input_ids=[[64],[32]]",
        ("`frontend.shape.input_ids` is [[64], [32]]", "the prompt not longer than the sequence"),
    ),
    "lengths in one list": (
        "frontend.shape.input_ids=[32,64]",
        ("`frontend.shape.input_ids` is [32, 64]", "two integers in lists of their own"),
    ),
    "sequences beyond the model": (
        "frontend.shape.input_ids=[[32],[512]]",
        ("recipe.yaml: `frontend.shape.input_ids`", "512 tokens", "checkpoint takes at most 256"),
    ),
    "absent checkpoint": ("frontend.checkpoint=/absent", ("/absent does not exist", "give the path of that folder")),
    "hub id": (
        "frontend.checkpoint=internlm/internlm2-7b",
        ("does not download", "hf download internlm/internlm2-7b --local-dir internlm2-7b"),
    ),
    "name with a slash": ("name=a/b", ('`name` is "a/b"', "without slashes")),
    "name that leads upwards": ("name=..", ('`name` is ".."', "a plain folder name")),
    "override without a value": ("name", ("--set name", "expected KEY=VALUE")),
}


@pytest.mark.parametrize(("override", "words"), OVERRIDES.values(), ids=OVERRIDES)
def test_key(workplace: Workplace, override: str, words: tuple[str, ...]) -> None:
    assert_one_error(ilmari_here("compile", workplace.recipe, "--set", override), *words)
    workplace.assert_nothing_made()


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "absent": (Path.unlink, "cannot be read as a configuration: No such file or directory"),
    "not YAML": (lambda path: path.write_text("name: [", encoding="utf-8"), "line 1, column 8"),
    "not text": (lambda path: path.write_bytes(b"\xff\xfe\0"), "is not UTF-8 text (byte 0)"),
    "empty": (lambda path: path.write_text("", encoding="utf-8"), "is empty"),
    "a list": (lambda path: path.write_text("- name", encoding="utf-8"), "holds a list"),
}


@pytest.mark.parametrize(("damage", "words"), FILES.values(), ids=FILES)
def test_file(workplace: Workplace, damage: Callable[[Path], object], words: str) -> None:
    damage(workplace.recipe)
    assert_one_error(ilmari_here("compile", workplace.recipe), str(workplace.recipe), words)
    workplace.assert_nothing_made()


def test_checkpoint_that_is_a_file(workplace: Workplace) -> None:
    file = workplace.checkpoint / "model.safetensors"
    result = ilmari_here("compile", workplace.recipe, "--set", f"frontend.checkpoint={file}")
    assert_one_error(result, f"{file} is a file", "give the checkpoint folder")
    workplace.assert_nothing_made()


@pytest.mark.parametrize(
    ("target", "words"),
    [("pentium5", "is not a CPU that LLVM knows"), ("", "is not a CPU that LLVM knows"), ("pentium4", "a 32-bit CPU")],
)
def test_target(workplace: Workplace, target: str, words: str) -> None:
    assert_one_error(ilmari_here("compile", workplace.recipe, "--target", target), f"--target {target}", words)
    workplace.assert_nothing_made()


def test_as_a_process(workplace: Workplace) -> None:
    result = ilmari("compile", workplace.recipe, "--set", "frontend.model_kwargs.tp=4")
    assert_one_error(result, "does not divide")
    workplace.assert_nothing_made()
