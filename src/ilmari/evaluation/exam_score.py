"""The score of an exam: per subject, per category, and in all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from ilmari.datasets.subjects import Subject
from ilmari.evaluation.exam import Answer


@dataclass(frozen=True)
class SubjectScore:
    """accuracy: the share of questions that were answered rightly, from 0 to 1."""

    subject: str
    category: str
    questions: int
    correct: int
    accuracy: float


@dataclass(frozen=True)
class Score:
    """Accuracies from 0 to 1. Those of `categories` and `average` are means over subjects, each of which counts alike,
    as the exams' authors have it; `accuracy` is that of all questions."""

    subjects: tuple[SubjectScore, ...]
    categories: Mapping[str, float]
    average: float
    questions: int
    correct: int
    accuracy: float


def score(answers: Sequence[Answer], subjects: Mapping[str, Subject]) -> Score:
    """Score answers; subjects by key. Subjects and categories are in the order of their first answer."""
    by_subject: dict[str, list[bool]] = {}
    for answer in answers:
        by_subject.setdefault(answer.subject, []).append(answer.correct)
    scores = tuple(
        SubjectScore(key, subjects[key].category, len(marks), sum(marks), fmean(marks))
        for key, marks in by_subject.items()
    )
    by_category: dict[str, list[float]] = {}
    for each in scores:
        by_category.setdefault(each.category, []).append(each.accuracy)
    return Score(
        subjects=scores,
        categories={category: fmean(accuracies) for category, accuracies in by_category.items()},
        average=fmean(each.accuracy for each in scores),
        questions=len(answers),
        correct=sum(each.correct for each in scores),
        accuracy=fmean(answer.correct for answer in answers),
    )
