"""An exam of multiple-choice questions: which are asked, and what a model answers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from ilmari.datasets.ceval import LETTERS, Exam
from ilmari.engine.llm import LLM
from ilmari.errors import DataError
from ilmari.evaluation.distribution import Distributions
from ilmari.evaluation.exam_prompt import EncodedItem, Item, encode
from ilmari.evaluation.journal import Journal
from ilmari.report import Report

SHOTS_SPLIT = "dev"


@dataclass(frozen=True)
class Answer:
    """What a model answered to a question.

    logprobs: of A, B, C and D after the prompt, natural logarithms; chosen: the most probable one; answer: the right
    one; shots, cut: as in `EncodedItem`; tokens: the prompt's; seconds: what it took.
    """

    subject: str
    id: str
    answer: str
    chosen: str
    logprobs: tuple[float, ...]
    shots: int
    cut: bool
    tokens: int
    seconds: float

    @property
    def correct(self) -> bool:
        """Whether the right letter was the most probable one."""
        return self.chosen == self.answer


def choose(exam: Exam, split: str, subjects: Sequence[str], shots: int, limit: int | None) -> list[Item]:
    """Questions of a split, subject by subject, each after the first `shots` of its subject in dev.

    subjects: keys of the wanted ones, all if none is named. limit: the most questions; they are taken from all subjects
    in turn, so that each has about as many.

    Raises:
        DataError: a split or subject that is not there, questions without answers, too few shots, or damaged files.
    """
    if shots and split == SHOTS_SPLIT:
        raise DataError(f"The shots are questions of {SHOTS_SPLIT}; give --shots 0 to ask those, or another --split.")
    known = {subject.key: subject for subject in exam.subjects(split)}
    by_subject = []
    for key in dict.fromkeys(subjects) or known:
        questions = exam.questions(split, key)
        if questions[0].answer is None:
            raise DataError(
                f"{exam.path} has no answers in its split {split}; choose another, such as {exam.measured}."
            )
        examples = exam.questions(SHOTS_SPLIT, key) if shots else ()
        if len(examples) < shots:
            raise DataError(
                f"{exam.path} has {len(examples)} questions of {key} in {SHOTS_SPLIT}; give --shots {len(examples)} or "
                "less."
            )
        by_subject.append([Item(exam.name, known[key], examples[:shots], question) for question in questions])
    in_turn = sorted((place, of) for of, items in enumerate(by_subject) for place in range(len(items)))
    wanted = set(in_turn[:limit])
    return [item for of, items in enumerate(by_subject) for place, item in enumerate(items) if (place, of) in wanted]


def take(llm: LLM, items: Sequence[Item], journal: Journal, report: Report) -> list[Answer]:
    """The model's answers, in the items' order.

    Raises:
        ArtifactError: the model's logits are not finite.
        OutputError: as the journal.
    """
    rows = journal.run("questions", items, lambda item: asdict(_answer(llm, item)), report)
    return [Answer(**row | {"logprobs": tuple(row["logprobs"])}) for row in rows]


def _answer(llm: LLM, item: Item) -> Answer:
    start = time.perf_counter()
    encoded = encode(item, llm.tokenizer, llm.manifest.max_seq_len)
    logprobs = _logprobs(llm, encoded)
    return Answer(
        subject=item.subject.key,
        id=item.question.id,
        answer=str(item.question.answer),
        chosen=LETTERS[logprobs.index(max(logprobs))],
        logprobs=logprobs,
        shots=encoded.shots,
        cut=encoded.cut,
        tokens=len(encoded.context),
        seconds=time.perf_counter() - start,
    )


def _logprobs(llm: LLM, encoded: EncodedItem) -> tuple[float, ...]:
    """Of each end, the sum over its tokens. Ends of one token, the usual case, are all read off the same logits."""
    passes: dict[tuple[int, ...], Distributions] = {}
    for end in encoded.ends:
        if (before := tuple(end[:-1])) not in passes:
            passes[before] = Distributions(llm.engine.logits([*encoded.context, *before], last=len(end)))
    return tuple(float(passes[tuple(end[:-1])].logprobs(np.array(end)).sum()) for end in encoded.ends)
