"""What the README tells its reader to type is typed here, in order, for a tiny checkpoint in place of a real one."""

import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from importlib import resources
from pathlib import Path

import pytest
import yaml
from checkpoints import TINY_SIZES, write_checkpoint
from commands import ILMARI, STORED, run

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("ilmari", "vamc")
VOCABULARY = 10_000  # the token ids of the Python snippet are a real model's

pytestmark = pytest.mark.slow


def _blocks(language: str = "") -> list[str]:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    return [
        text for tag, text in re.findall(r"^```(\w*)\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE) if tag == language
    ]


def _commands() -> list[list[str]]:
    lines = [line for block in _blocks() for line in block.replace("\\\n", " ").splitlines()]
    return [
        shlex.split(line, comments=True) for line in lines if line.startswith(tuple(f"{name} " for name in PROGRAMS))
    ]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the reader has it: the configurations, the vendor's recipe, and a checkpoint."""
    folder = tmp_path_factory.mktemp("reader")
    shutil.copytree(ROOT / "configs", folder / "configs")
    write_checkpoint(folder / "checkpoint", **TINY_SIZES | {"vocab": VOCABULARY, "max_position": 2048})
    recipe = yaml.safe_load(resources.files("ilmari.demo").joinpath("demo.yaml").read_text(encoding="utf-8"))
    recipe["frontend"]["model_kwargs"]["tp"] = 4
    recipe["frontend"]["quantize"]["type"] = "w8a16_gptq"
    (folder / "hf_internlm_int8.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    (folder / "wikitext-2").mkdir()
    (folder / "wikitext-2" / "test.txt").write_text("Once upon a time " * 1300, encoding="utf-8")
    with zipfile.ZipFile(folder / "ceval-exam.zip", "w") as archive:
        for split in ("dev", "val"):
            rows = "".join(f"{number},q,1,2,3,4,A\n" for number in range(5))
            archive.writestr(f"{split}/law_{split}.csv", f"id,question,A,B,C,D,answer\n{rows}")
    return folder


def test_every_command_and_the_snippet_work(place: Path, kernels_compiled_once: Path) -> None:
    commands = _commands()
    assert {tuple(command[:2]) for command in commands} == {
        *(("ilmari", verb) for verb in ("compile", "chat", "generate", "inspect", "verify", "bench", "eval")),
        ("vamc", "compile"),
    }
    for program, *arguments in commands:
        arguments = [re.sub(r"/path/to/[\w.-]+", str(place / "checkpoint"), argument) for argument in arguments]
        command = (*STORED, str(kernels_compiled_once), program) if arguments[0] == "compile" else ILMARI
        result = run(command, *arguments, cwd=place)
        assert result.returncode == 0, (program, arguments, result.stderr)

    (snippet,) = _blocks("python")
    done = subprocess.run([sys.executable, "-c", snippet], cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("config", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_name_is_the_file_s(config: Path) -> None:
    assert yaml.safe_load(config.read_text(encoding="utf-8"))["name"] == config.stem
