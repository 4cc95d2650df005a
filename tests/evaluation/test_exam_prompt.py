"""Prompts of exams, character by character, and the tokens that really follow them."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import bytes_tokenizer
import pytest
from checkpoints import BOS, CompileTiny
from exams import rows, write_ceval, write_cmmlu

from ilmari.datasets.ceval import Exam
from ilmari.evaluation.exam import choose
from ilmari.evaluation.exam_prompt import Item, digest, encode
from ilmari.model.tokenizer import Tokenizer

CEVAL_PROMPT = (
    "以下是中国关于法学考试的单项选择题，请选出其中的正确答案。\n\n"
    "d0？\nA. 甲\nB. b\nC. 3\nD. d d\n答案：A\n\n"
    "d1？\nA. 甲\nB. b\nC. 3\nD. d d\n答案：B\n\n"
    "q0？\nA. 甲\nB. b\nC. 3\nD. d d\n答案："
)
CMMLU_PROMPT = (
    "以下是关于艺术学的单项选择题，请直接给出正确答案的选项。\n\n"
    "题目：d0？\nA. 甲\nB. b\nC. 3\nD. d d\n答案是：A\n\n"
    "题目：q0？\nA. 甲\nB. b\nC. 3\nD. d d\n答案是："
)


@pytest.fixture
def item(tmp_path: Path) -> Item:
    """A question after two others."""
    exam = Exam.open(write_ceval(tmp_path / "ceval", {"val/law": rows(1), "dev/law": rows(3, "d")}))
    (only,) = choose(exam, "val", [], 2, None)
    return only


@pytest.fixture
def tokenizer(compile_tiny: CompileTiny) -> Tokenizer:
    """One token for each byte."""
    return Tokenizer.load(compile_tiny("fp16") / "tokenizer")


class Joining(Tokenizer):
    """Joins some texts to one token, as tokenizers do with frequent ones; every other character is a token."""

    def __init__(self, *joined: str) -> None:
        self._joined = joined

    def encode(self, text: str, *, add_bos: bool = True, parse_special: bool = False) -> list[int]:  # noqa: ARG002
        for number, joined in enumerate(self._joined):
            text = text.replace(joined, chr(0x10F000 + number))
        return [BOS] * add_bos + [*map(ord, text)]


def spell(ids: Sequence[int]) -> str:
    return "".join(map(chr, ids))


def test_ceval(item: Item) -> None:
    assert item.prompt(2) == CEVAL_PROMPT
    header, _, second, last = CEVAL_PROMPT.split("\n\n")
    assert item.prompt(1) == f"{header}\n\n{second}\n\n{last}"
    assert item.prompt(0) == f"{header}\n\n{last}"


def test_cmmlu(tmp_path: Path) -> None:
    exam = Exam.open(write_cmmlu(tmp_path, {"test/arts": rows(1), "dev/arts": rows(1, "d")}))
    (item,) = choose(exam, "test", [], 1, None)
    assert item.prompt(1) == CMMLU_PROMPT


def test_digest_is_of_all_prompts_and_answers(tmp_path: Path) -> None:
    exams = [
        write_ceval(tmp_path / str(number), {"val/law": questions, "dev/law": examples})
        for number, (questions, examples) in enumerate(
            [(rows(2), rows(2)), (rows(2, "x"), rows(2)), (rows(2), rows(2, "x")), (rows(4)[2:], rows(2))]
        )
    ]
    digests = [digest(choose(Exam.open(exam), "val", [], 2, None)) for exam in exams]
    assert len(set(digests)) == 4
    assert digest(choose(Exam.open(exams[0]), "val", [], 2, None)) == digests[0]


def test_one_token_for_each_letter(item: Item, tokenizer: Tokenizer) -> None:
    encoded = encode(item, tokenizer, 1000)
    assert list(encoded.context) == [BOS, *bytes_tokenizer.encode(CEVAL_PROMPT)]
    assert [list(end) for end in encoded.ends] == [bytes_tokenizer.encode(letter) for letter in "ABCD"]
    assert (encoded.shots, encoded.cut) == (2, False)


def test_letter_joined_with_what_stands_before(item: Item) -> None:
    """Of "：A" as one token, "：" is no token of the context."""
    encoded = encode(item, Joining("：A", "：B", "：C", "：D"), 1000)
    assert spell(encoded.context[1:]) == CEVAL_PROMPT[:-1].replace("：A", "\U0010f000").replace("：B", "\U0010f001")
    assert [list(end) for end in encoded.ends] == [[0x10F000 + number] for number in range(4)]


def test_only_one_letter_is_joined(item: Item) -> None:
    encoded = encode(item, Joining("：D"), 1000)
    assert spell(encoded.context[1:]) == CEVAL_PROMPT[:-1]
    assert [spell(end) for end in encoded.ends] == ["：A", "：B", "：C", "\U0010f000"]


def test_shots_are_left_out_from_the_front(item: Item) -> None:
    """As few as need be: what has to be read, all but the last token, may be as long as the limit."""
    tokenizer = Joining()
    lengths = [1 + len(item.prompt(shots)) for shots in range(3)]
    for shots, (length, more) in enumerate(pairwise(lengths)):
        for limit in (length, more - 1):
            encoded = encode(item, tokenizer, limit)
            assert spell(encoded.context[1:]) == item.prompt(shots)
            assert (encoded.shots, encoded.cut) == (shots, False)
    assert encode(item, tokenizer, lengths[2]).shots == 2


def test_question_without_room_loses_its_beginning(item: Item) -> None:
    encoded = encode(item, Joining(), 9)
    assert spell(encoded.context) == "D. d d\n答案："[-9:]
    assert [spell(end) for end in encoded.ends] == list("ABCD")
    assert (encoded.shots, encoded.cut) == (0, True)
