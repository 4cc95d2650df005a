"""From a YAML file to an artifact, by both commands."""

from pathlib import Path

import pytest
import yaml
from commands import STORED, assert_refused, ilmari, run
from refusals import ilmari_here

FILES = {
    "manifest.json",
    "kernels.o",
    "params/rank0.safetensors",
    "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/chat_template.jinja",
}


@pytest.fixture
def recipe(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """The vendor's form, for the tiny checkpoint."""
    keys = {
        "name": "tiny int8",
        "frontend": {
            "checkpoint": str(tiny_checkpoint),
            "type": "huggingface",
            "shape": {"input_ids": [[32], [64]]},
            "model_kwargs": {"tp": 1},
            "quantize": {"type": "w8a16"},
        },
        "backend": {"type": "tvm_vacc", "dtype": "int8"},
        "workspace": {"path": str(tmp_path / "out")},
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(keys), encoding="utf-8")
    return path


HALF = ("--set", "name=tiny half", "--set", "backend.dtype=fp16", "--set", "frontend.quantize=null")


@pytest.mark.parametrize(
    ("program", "overrides", "name", "weights"),
    [("ilmari", (), "tiny int8", "int8"), ("vamc", HALF, "tiny half", "float16")],
    ids=["ilmari", "vamc"],
)
def test_compile_and_run(
    program: str, overrides: tuple[str, ...], name: str, weights: str, recipe: Path, kernels_compiled_once: Path
) -> None:
    artifact = recipe.parent / "out" / name
    result = run((*STORED, str(kernels_compiled_once), program), "compile", recipe, *overrides)
    assert result.returncode == 0
    assert result.stdout == f"wrote {artifact}\nnext: ilmari chat --model '{artifact}'\n"
    files = FILES | {"quantization.json"} if "int8" in weights else FILES
    assert {str(path.relative_to(artifact)) for path in artifact.rglob("*") if path.is_file()} == files
    assert [path.name for path in artifact.parent.iterdir()] == [name]

    assert ilmari("verify", artifact).returncode == 0
    assert f"{weights}, one scale" in ilmari_here("inspect", artifact).stdout
    said = ilmari(
        "generate", "--model", artifact, "--prompt-token-ids", "1,2", "--max-tokens", "3", "--ignore-eos", "--json"
    )
    assert '"completion_tokens": 3' in said.stdout


def test_absent_checkpoint(recipe: Path) -> None:
    result = ilmari("compile", recipe, "--set", "frontend.checkpoint=nowhere")
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith("error: nowhere")
    assert not (recipe.parent / "out").exists()


def test_a_checkpoint_in_place_of_an_artifact(tiny_checkpoint: Path) -> None:
    for args in (["generate", "--prompt", "x", "--model"], ["chat", "--model"], ["inspect"], ["verify"]):
        assert_refused(
            ilmari_here(*args, tiny_checkpoint), "is a Hugging Face checkpoint", "`ilmari compile CONFIG.yaml`"
        )


def test_an_empty_folder_in_place_of_an_artifact(tmp_path: Path) -> None:
    for args in (["generate", "--prompt", "x", "--model"], ["chat", "--model"], ["inspect"], ["verify"]):
        assert_refused(ilmari_here(*args, tmp_path), "is not a compiled model", "manifest.json")
