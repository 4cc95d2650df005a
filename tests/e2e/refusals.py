"""For the tests of bad input: the command line in this process, and what a refusal may leave behind."""

import io
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pytest
import yaml
from commands import Result

from ilmari.cli.app import main


def ilmari_here(*args: str | Path, stdin: str = "") -> Result:
    """As `commands.ilmari`, but in this process, which spares the seconds that its imports take."""
    argv = ["ilmari", *map(str, args)]
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with (
        patch.object(sys, "argv", argv),
        patch.object(sys, "stdin", io.StringIO(stdin)),
        redirect_stdout(out),
        redirect_stderr(err),
        pytest.raises(SystemExit) as end,
    ):
        main()
    assert isinstance(end.value.code, int)
    out.seek(0)
    err.seek(0)
    return Result(argv, end.value.code, out.read(), err.read())


def assert_one_error(result: Result, *words: str) -> None:
    """Exit code 2 and no traceback; the last line, and no other, is an error that says all of `words`."""
    assert result.returncode == 2, result
    assert "Traceback" not in result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, result.stderr
    assert result.stderr.endswith(f"{errors[0]}\n")
    for word in words:
        assert word in errors[0]


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by its path in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@dataclass(frozen=True)
class Workplace:
    """A folder in which to compile: a checkpoint of its own, a recipe, and the place where the artifact goes."""

    checkpoint: Path
    recipe: Path
    artifact: Path

    @classmethod
    def make(cls, folder: Path, checkpoint: Path) -> "Workplace":
        """Copy a checkpoint into `folder`, and write a recipe for it."""
        copy = Path(shutil.copytree(checkpoint, folder / "checkpoint"))
        keys = {
            "name": "tiny",
            "frontend": {"checkpoint": str(copy), "shape": {"input_ids": [[32], [64]]}},
            "backend": {"dtype": "fp16"},
            "workspace": {"path": str(folder / "out")},
        }
        recipe = folder / "recipe.yaml"
        recipe.write_text(yaml.safe_dump(keys), encoding="utf-8")
        return cls(copy, recipe, folder / "out" / "tiny")

    def assert_nothing_made(self) -> None:
        """No artifact, and nothing hidden beside its place."""
        assert not self.artifact.parent.exists() or list(self.artifact.parent.iterdir()) == []
