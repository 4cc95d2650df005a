"""Which questions are asked, what a model answers, and what that is worth."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from checkpoints import CompileTiny
from exams import rows, write_ceval

from ilmari import LLM
from ilmari.datasets.ceval import Exam
from ilmari.datasets.subjects import CEVAL
from ilmari.errors import DataError
from ilmari.evaluation.exam import Answer, choose, take
from ilmari.evaluation.exam_prompt import EncodedItem, Item
from ilmari.evaluation.exam_score import score
from ilmari.evaluation.journal import Journal

FILES = {
    "val/law": rows(3),
    "val/logic": rows(1),
    "val/physician": rows(4),
    "test/law": rows(2),
    **{f"dev/{subject}": rows(2, "d") for subject in ("law", "logic", "physician")},
}


@pytest.fixture
def exam(tmp_path: Path) -> Exam:
    return Exam.open(write_ceval(tmp_path, FILES))


def chosen(exam: Exam, *subjects: str, limit: int | None = None) -> list[tuple[str, str]]:
    return [(item.subject.key, item.question.id) for item in choose(exam, "val", subjects, 1, limit)]


def test_all_questions_in_order(exam: Exam) -> None:
    want = [(subject, str(number)) for subject, count in (("law", 3), ("logic", 1), ("physician", 4))
            for number in range(count)]  # fmt: skip
    assert chosen(exam) == chosen(exam, limit=8) == chosen(exam, limit=100) == want
    items = choose(exam, "val", [], 2, None)
    assert all([shot.text for shot in item.shots] == ["d0？", "d1？"] for item in items)


def test_subjects(exam: Exam) -> None:
    assert chosen(exam, "logic", "law", "logic", limit=2) == [("logic", "0"), ("law", "0")]


@pytest.mark.parametrize(("limit", "counts"), [(1, (1, 0, 0)), (3, (1, 1, 1)), (5, (2, 1, 2)), (7, (3, 1, 3))])
def test_limit_takes_from_all_subjects_in_turn(exam: Exam, limit: int, counts: tuple[int, int, int]) -> None:
    found = [subject for subject, _ in chosen(exam, limit=limit)]
    assert tuple(map(found.count, ("law", "logic", "physician"))) == counts


REFUSED = {
    "unknown split": ("final", [], 1, "has no split 'final'"),
    "split without answers": ("test", [], 1, "has no answers in its split test; choose another, such as val"),
    "shots from what is asked": ("dev", [], 1, "give --shots 0 to ask those"),
    "unknown subject": ("val", ["lw"], 1, "no subject 'lw' in its split val; the nearest is law."),
    "too many shots": ("val", [], 3, "has 2 questions of law in dev; give --shots 2 or less"),
}


@pytest.mark.parametrize(("split", "subjects", "shots", "words"), REFUSED.values(), ids=REFUSED)
def test_refused(exam: Exam, split: str, subjects: list[str], shots: int, words: str) -> None:
    with pytest.raises(DataError) as caught:
        choose(exam, split, subjects, shots, None)
    assert words in str(caught.value)


def test_dev_itself_may_be_asked(exam: Exam) -> None:
    assert len(choose(exam, "dev", [], 0, None)) == 6


@pytest.fixture
def llm(compile_tiny: CompileTiny) -> LLM:
    """Sequences have at most 256 tokens, a token for each byte; logits do not depend on what else a step computes."""
    return LLM(compile_tiny("w8a16"), max_num_seqs=1)


@pytest.fixture
def items(exam: Exam) -> list[Item]:
    return choose(exam, "val", [], 1, None)


def test_answers(llm: LLM, items: list[Item], monkeypatch: pytest.MonkeyPatch) -> None:
    """The likeliest of four letters that are one token each, in float64. Where letters are of two tokens, the first of
    which they share, that one's logarithm is added to all, by the chain rule."""
    answers = take(llm, items, Journal(None, {}), lambda *_: None)
    assert [answer.id for answer in answers] == [item.question.id for item in items]
    letters = [llm.tokenizer.encode(letter, add_bos=False)[0] for letter in "ABCD"]
    for answer, item in zip(answers, items, strict=True):
        context = llm.tokenizer.encode(item.prompt(1))
        scores = llm.logits(context)[-1].astype(np.float64)
        want = scores[letters] - np.log(np.exp(scores).sum())
        assert answer.logprobs == pytest.approx(want.tolist(), rel=1e-5)
        assert answer.chosen == "ABCD"[want.argmax()]
        assert answer.answer == item.question.answer
        assert (answer.shots, answer.cut, answer.tokens) == (1, False, len(context))

    def shorter_context(item: Item, *_: object) -> EncodedItem:
        encoded = EncodedItem(llm.tokenizer.encode(item.prompt(1)), tuple([letter] for letter in letters), 1, False)
        last = encoded.context[-1]
        return replace(encoded, context=encoded.context[:-1], ends=tuple([last, *end] for end in encoded.ends))

    monkeypatch.setattr("ilmari.evaluation.exam.encode", shorter_context)
    for answer, longer in zip(answers, take(llm, items, Journal(None, {}), lambda *_: None), strict=True):
        difference = np.subtract(longer.logprobs, answer.logprobs)
        assert difference == pytest.approx(difference[0], abs=1e-5)
        assert difference[0] < 0


def answer(subject: str, chosen: str) -> Answer:
    return Answer(subject, "0", "A", chosen, (0.0,) * 4, 0, False, 1, 1.0)


def test_score() -> None:
    """Every subject counts alike in its category and in the average, every question in the accuracy."""
    answers = [answer("law", letter) for letter in "AABC"] + [answer("logic", "A"), answer("physician", "D")]
    found = score(answers, CEVAL)
    assert [(each.subject, each.category, each.correct, each.questions) for each in found.subjects] == [
        ("law", "Humanities", 2, 4),
        ("logic", "Humanities", 1, 1),
        ("physician", "Other", 0, 1),
    ]
    assert [each.accuracy for each in found.subjects] == [0.5, 1, 0]
    assert found.categories == {"Humanities": 0.75, "Other": 0}
    assert (found.average, found.accuracy) == (0.5, 0.5)
    assert (found.correct, found.questions) == (3, 6)
