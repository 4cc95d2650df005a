"""The README's file tree names every file there is, and nothing else."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("benchmarks", "configs", "deploy", "docs", "src/ilmari", "tests")
UNLISTED = {"__pycache__", "results", "__init__.py"}  # a package is described where its folder stands


def _listed() -> set[str]:
    """Paths in the README's tree: a folder ends in /, and what belongs to it is indented by two more spaces."""
    tree = re.search(r"## Where things are\n+```\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert tree, "the README has no file tree"
    folders: list[str] = []
    paths = set()
    for line in tree[1].splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        name = line.split()[0]
        folders = [*folders[:depth], name]
        if not name.endswith("/"):
            paths.add("".join(folders))
    return paths


def _present() -> set[str]:
    return {
        path.relative_to(ROOT).as_posix()
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and not UNLISTED & set(path.parts)
    }


def test_tree_names_every_file():
    listed = {path for path in _listed() if path.startswith(FOLDERS)}
    assert listed == _present()


def test_every_listed_file_exists():
    assert [path for path in _listed() if not (ROOT / path).exists()] == []
