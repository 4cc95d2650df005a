"""A question of an exam as a prompt, in the words that the exam's authors use."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import NamedTuple

from ilmari.datasets.ceval import LETTERS, Question
from ilmari.datasets.subjects import Subject
from ilmari.model.tokenizer import Tokenizer


class _Wording(NamedTuple):
    """What stands before the first question, before each question, and before each answer."""

    header: str
    before_question: str
    before_answer: str


_WORDINGS = {
    "C-Eval": _Wording("以下是中国关于{}考试的单项选择题，请选出其中的正确答案。\n\n", "", "\n答案："),
    "CMMLU": _Wording("以下是关于{}的单项选择题，请直接给出正确答案的选项。\n\n", "题目：", "\n答案是："),
}
"""By the exam's name: the prompts of Huang et al. 2023 (arXiv:2305.08322) and Li et al. 2023 (arXiv:2306.09212)."""


@dataclass(frozen=True)
class Item:
    """A question to answer, after others of its subject with their answers."""

    exam: str
    subject: Subject
    shots: tuple[Question, ...]
    question: Question

    def prompt(self, shots: int) -> str:
        """The text up to where the answer's letter follows, with the last `shots` of the shots."""
        wording = _WORDINGS[self.exam]
        answered = [
            f"{wording.before_question}{shot.body}{wording.before_answer}{shot.answer}\n\n"
            for shot in self.shots[len(self.shots) - shots :]
        ]
        asked = f"{wording.before_question}{self.question.body}{wording.before_answer}"
        return "".join([wording.header.format(self.subject.chinese), *answered, asked])


def digest(items: Iterable[Item]) -> str:
    """SHA-256 of all prompts and their answers, hexadecimal."""
    texts = [[item.prompt(len(item.shots)), item.question.answer] for item in items]
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


@dataclass(frozen=True)
class EncodedItem:
    """Token ids of a prompt, and of the end that each letter gives it.

    Letters are not encoded by themselves: a tokenizer may join one with what stands before it. `context` is what the
    encodings of the prompt with each of the letters have in common, and the ends are what each has beyond it, most
    often one token. `shots` are those that had room; `cut`: even without any, the prompt's beginning had none.
    """

    context: Sequence[int]
    ends: tuple[Sequence[int], ...]
    shots: int
    cut: bool


def encode(item: Item, tokenizer: Tokenizer, limit: int) -> EncodedItem:
    """Encode a prompt so that no more than `limit` tokens have to be read: the first shots are left out if need be."""
    for shots in range(len(item.shots), -1, -1):
        prompt = item.prompt(shots)
        answered = [tokenizer.encode(prompt + letter) for letter in LETTERS]
        if (length := max(map(len, answered)) - 1) <= limit:
            break
    common = sum(1 for _ in takewhile(lambda tokens: len(set(tokens)) == 1, zip(*answered, strict=False)))
    excess = max(length - limit, 0)
    return EncodedItem(answered[0][excess:common], tuple(ids[common:] for ids in answered), shots, excess > 0)
