"""The source itself: nothing on a wire or in a file is ever turned into code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import ilmari

SOURCE = Path(ilmari.__file__).parent
FORBIDDEN_MODULES = {
    *("pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"),
    *("multiprocessing", "zmq", "torch", "transformers"),  # the first two pickle what they carry
}
FORBIDDEN_CALLS = {"eval", "exec", "__import__"}


def trees() -> Iterator[tuple[Path, ast.Module]]:
    """Every file of the package."""
    for path in SOURCE.rglob("*.py"):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.Module) -> Iterator[str]:
    """The first names of all modules that are imported, wherever it is."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def test_no_module_that_pickles() -> None:
    found = {path: names for path, tree in trees() if (names := FORBIDDEN_MODULES & set(imported(tree)))}
    assert found == {}


def test_no_code_from_text() -> None:
    calls = [
        (path, node.lineno)
        for path, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS
    ]
    assert calls == []


def test_numpy_is_never_allowed_to_unpickle() -> None:
    allowed = [
        (path, node.value.lineno)
        for path, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword)
        and node.arg == "allow_pickle"
        and not (isinstance(node.value, ast.Constant) and node.value.value is False)
    ]
    assert allowed == []


def test_keys_are_compared_in_constant_time() -> None:
    tree = ast.parse((SOURCE / "server" / "auth.py").read_text(encoding="utf-8"))
    called = {
        node.func.attr for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    assert "compare_digest" in called
