"""Small exams in the forms of C-Eval and CMMLU."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

Rows = Sequence[Sequence[str]]


def write_ceval(folder: Path, files: Mapping[str, Rows]) -> Path:
    """Write rows of (question, A, B, C, D, answer) as C-Eval's files; keys such as "val/law"."""
    for name, rows in files.items():
        split, subject = name.split("/")
        columns = ["id", "question", "A", "B", "C", "D", "answer"]
        lines = [columns, *([str(number), *row] for number, row in enumerate(rows))]
        if split == "test":
            lines = [line[:-1] for line in lines]
        _write(folder / split / f"{subject}_{split}.csv", lines)
    return folder


def write_cmmlu(folder: Path, files: Mapping[str, Rows]) -> Path:
    """The same as CMMLU's files."""
    for name, rows in files.items():
        columns = ["", "Question", "A", "B", "C", "D", "Answer"]
        _write(folder / f"{name}.csv", [columns, *([str(number), *row] for number, row in enumerate(rows))])
    return folder


def _write(path: Path, lines: Rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(lines)


def rows(count: int, letter: str = "q") -> list[list[str]]:
    """So many questions, with the answers A, B, C, D, A and so on."""
    return [[f"{letter}{number}？", "甲", "b", "3", "d d", "ABCD"[number % 4]] for number in range(count)]
