"""Text streams against the tokenizer's own decoding and str.find, however the tokens arrive."""

from pathlib import Path

import pytest
from bytes_tokenizer import encode
from checkpoints import EOS, IM_END, CompileTiny

from ilmari import SamplingParams
from ilmari.engine.text_stream import TextStream
from ilmari.model.tokenizer import Tokenizer

TEXT = "Ä hyvää 你好 END of it"


@pytest.fixture(scope="module")
def tokenizer(compile_tiny: CompileTiny) -> Tokenizer:
    """One token for each byte."""
    folder: Path = compile_tiny("w8a16")
    return Tokenizer.load(folder / "tokenizer")


def streamed(stream: TextStream, token_ids: list[int], pieces: int) -> str:
    """The text of tokens that come in so many pieces."""
    size = -(-len(token_ids) // pieces)
    text = "".join(stream.push(token_ids[start : start + size], False) for start in range(0, len(token_ids), size))
    return text + stream.push([], True)


@pytest.mark.parametrize("pieces", [1, 2, 7, 100])
def test_pieces_are_the_text(tokenizer: Tokenizer, pieces: int) -> None:
    stream = TextStream(tokenizer, SamplingParams(), frozenset())
    tokens = encode(TEXT)
    assert streamed(stream, tokens, pieces) == TEXT == "".join(stream.pieces)
    assert len(stream.pieces) == len(tokens)
    assert stream.pieces[:2] == ["", "Ä"]  # a character belongs to its last byte
    assert not stream.stopped


@pytest.mark.parametrize("pieces", [1, 2, 7, 100])
@pytest.mark.parametrize("include", [False, True])
def test_a_stop_string_ends_the_text(tokenizer: Tokenizer, pieces: int, include: bool) -> None:
    stream = TextStream(tokenizer, SamplingParams(stop="END", include_stop_str_in_output=include), frozenset())
    end = TEXT.find("END")
    assert streamed(stream, encode(TEXT), pieces) == TEXT[: end + 3 * include]
    assert stream.stopped
    assert len(stream.pieces) == len(encode(TEXT[: end + 3]))
    assert stream.push(encode("more"), True) == ""


def test_a_stop_string_may_be_settled_by_the_end(tokenizer: Tokenizer) -> None:
    stream = TextStream(tokenizer, SamplingParams(stop=["bc", "abcd"]), frozenset())
    assert stream.push(encode("xabc"), False) == "x"
    assert not stream.stopped
    assert stream.push([], True) == "a"
    assert stream.stopped


def test_half_a_character_is_shown_at_the_end(tokenizer: Tokenizer) -> None:
    stream = TextStream(tokenizer, SamplingParams(), frozenset())
    assert stream.push(encode("aä")[:-1], True) == "a\ufffd"
    assert stream.pieces == ["a", "\ufffd"]


@pytest.mark.parametrize(
    ("params", "want"),
    [
        ({}, "ab"),
        ({"ignore_eos": True}, "a</s>b"),
        ({"ignore_eos": True, "stop_token_ids": [EOS]}, "ab"),
        ({"stop_token_ids": encode("b")}, "a"),
    ],
)
def test_stop_tokens_are_not_shown(tokenizer: Tokenizer, params: dict[str, object], want: str) -> None:
    spelt_out = SamplingParams(skip_special_tokens=False, **params)  # type: ignore[arg-type]
    stream = TextStream(tokenizer, spelt_out, frozenset({EOS, IM_END}))
    assert stream.push([*encode("a"), EOS, *encode("b")], True) == want
    assert "".join(stream.pieces) == want
    assert len(stream.pieces) == 3
