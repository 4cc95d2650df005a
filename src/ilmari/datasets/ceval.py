"""The multiple-choice questions of C-Eval and CMMLU: `SPLIT/SUBJECT_SPLIT.csv` and `SPLIT/SUBJECT.csv`."""

import csv
import difflib
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ilmari.datasets.bundle import Bundle
from ilmari.datasets.subjects import CEVAL, CMMLU, Subject
from ilmari.errors import DataError

LETTERS = "ABCD"


@dataclass(frozen=True)
class Question:
    """A question with four choices; `answer` is a letter, or None where the exam keeps it secret (C-Eval's test)."""

    subject: str
    id: str
    text: str
    choices: tuple[str, str, str, str]
    answer: str | None

    @property
    def body(self) -> str:
        """The question and its choices, a line for each; what asks for the answer is the reader's to add."""
        lines = (f"{letter}. {choice}" for letter, choice in zip(LETTERS, self.choices, strict=True))
        return "\n".join([self.text, *lines])


@dataclass(frozen=True)
class _Format:
    """How an exam names its files and columns; `secret` is the split without answers, `measured` the one for scores."""

    exam: str
    file: re.Pattern[str]
    id: str
    text: str
    answer: str
    secret: str | None
    measured: str
    subjects: Mapping[str, Subject]


_SPLITS = "(?P<split>dev|val|test)"
_FORMATS = (
    _Format(
        exam="C-Eval",
        file=re.compile(rf"(?:[^/]+/)?{_SPLITS}/(?P<subject>[^/]+)_(?P=split)\.csv"),
        id="id",
        text="question",
        answer="answer",
        secret="test",
        measured="val",
        subjects=CEVAL,
    ),
    _Format(
        exam="CMMLU",
        file=re.compile(rf"(?:[^/]+/)?{_SPLITS}/(?P<subject>[^/]+)\.csv"),
        id="",
        text="Question",
        answer="Answer",
        secret=None,
        measured="test",
        subjects=CMMLU,
    ),
)


class Exam:
    """C-Eval or CMMLU on disk, told apart by the names of its files.

    `name` is "C-Eval" or "CMMLU"; `measured` is the split that scores are published for ("val" or "test").
    """

    def __init__(self, bundle: Bundle, form: _Format, files: Mapping[tuple[str, str], str]) -> None:
        self._bundle, self._format, self._files = bundle, form, files
        self.path: Path = bundle.path
        self.name: str = form.exam
        self.measured: str = form.measured

    @classmethod
    def open(cls, path: Path) -> "Exam":
        """List the files of a zip or a folder, a hub folder with one zip too; nothing is parsed yet.

        Raises:
            DataError: there is no such exam, a file is of no known subject, or as `Bundle.open`.
        """
        bundle = Bundle.open(path)
        for form in _FORMATS:
            matches = {name: match for name in bundle.members if (match := form.file.fullmatch(name))}
            if matches:
                break
        else:
            raise DataError(
                f"{bundle.path} has no exam; expected files such as val/law_val.csv (C-Eval) or test/arts.csv (CMMLU)."
            )
        files = {(match["split"], match["subject"]): name for name, match in matches.items()}
        for (_, subject), name in files.items():
            if subject not in form.subjects:
                raise DataError(
                    f"{bundle.where(name)} is of no subject of {form.exam}{_nearest(subject, form.subjects)}"
                )
        return cls(bundle, form, files)

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that are there, sorted by name: dev, test, val."""
        return tuple(sorted({split for split, _ in self._files}))

    def subjects(self, split: str) -> tuple[Subject, ...]:
        """The subjects of a split, sorted by key.

        Raises:
            DataError: there is no such split.
        """
        if split not in self.splits:
            raise DataError(f"{self.path} has no split {split!r} of {self.name}; it has {', '.join(self.splits)}.")
        return tuple(self._format.subjects[key] for each, key in sorted(self._files) if each == split)

    def questions(self, split: str, subject: str | None = None) -> tuple[Question, ...]:
        """The questions of a split in the files' order, subject by subject, or those of one subject (its key).

        Raises:
            DataError: there is no such split or subject, or a file is damaged, too large or not of the expected form.
        """
        keys = [each.key for each in self.subjects(split)]
        if subject is not None and subject not in keys:
            raise DataError(f"{self.path} has no subject {subject!r} in its split {split}{_nearest(subject, keys)}")
        wanted = keys if subject is None else [subject]
        return tuple(question for key in wanted for question in self._read(split, key))

    def _read(self, split: str, subject: str) -> list[Question]:
        form, name = self._format, self._files[split, subject]
        where = self._bundle.where(name)
        secret = split == form.secret
        needed = [form.id, form.text, *LETTERS, *([] if secret else [form.answer])]
        rows = csv.reader(io.StringIO(self._bundle.read(name), newline=""), strict=True)
        questions = []
        try:
            header = next(rows, [])
            if not set(needed) <= set(header):
                raise DataError(f"{where} has the columns {_listed(header)}; expected {_listed(needed)}.")
            for row in filter(None, rows):
                line = f"{where}, line {rows.line_num}"
                if len(row) != len(header):
                    raise DataError(f"{line}: {len(row)} columns; expected {len(header)} as in the first line.")
                number, text, a, b, c, d, *answer = (row[header.index(column)] for column in needed)
                if answer and answer[0] not in tuple(LETTERS):
                    raise DataError(f"{line}: the answer is {answer[0][:20]!r}; expected A, B, C or D.")
                questions.append(Question(subject, number, text, (a, b, c, d), answer[0] if answer else None))
        except csv.Error as error:
            raise DataError(f"{where}, line {rows.line_num}: {error}; correct the CSV there.") from error
        if not questions:
            raise DataError(f"{where} has no questions; fetch the file again.")
        return questions


def _listed(columns: Iterable[str]) -> str:
    """Column names for a sentence; the first column of CMMLU has none."""
    text = ", ".join(column or "(unnamed)" for column in columns)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _nearest(subject: str, known: Iterable[str]) -> str:
    keys = sorted(known)
    near = difflib.get_close_matches(subject, keys, n=1)
    return f"; the nearest is {near[0]}." if near else f"; expected one such as {', '.join(keys[:3])}."
