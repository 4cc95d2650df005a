"""Streamed text is the decoded text, cut between characters."""

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from ilmari.errors import RequestError
from ilmari.model.stream_decoder import StreamDecoder
from ilmari.model.tokenizer import Tokenizer, TokenizerConfig

WORDS = {"byte_fallback": ["▁hello", "你好", "é", "x", "▁▁"], "byte_level": ["Ġhello", "ä½ł", "ðŁĺ", "Ã©", "xĠ"]}
FIRST_BYTE, FIRST_WORD = 3, 3 + 256
VOCAB_SIZE = FIRST_WORD + 5 + 2  # the last two rows have no piece


def byte_piece(kind: str, byte: int) -> str:
    """How GPT-2 spells a byte is taken from the `tokenizers` library, not from the code under test."""
    if kind == "byte_fallback":
        return f"<0x{byte:02X}>"
    if byte >= 0xC0:
        return chr(byte)  # printable in Latin-1; some of these occur in no valid text
    speller = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return speller.pre_tokenize_str(chr(byte))[0][0][-1]  # the last byte of U+0000 to U+00BF is the number itself


@pytest.fixture(params=["byte_fallback", "byte_level"], scope="module")
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    pieces = ["<unk>", "<s>", "</s>", *(byte_piece(request.param, byte) for byte in range(256)), *WORDS[request.param]]
    backend = tokenizers.Tokenizer(tokenizers.models.BPE({piece: i for i, piece in enumerate(pieces)}, []))
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    config = TokenizerConfig(
        byte_encoding=request.param,
        vocab_size=VOCAB_SIZE,
        add_bos_token=False,
        bos_token_id=1,
        eos_token_id=2,
        special_token_ids=(0, 1, 2),
        stop_token_ids=(2,),
    )
    return Tokenizer(config, backend)


def of_bytes(data: bytes) -> list[int]:
    return [FIRST_BYTE + byte for byte in data]


def test_every_byte(tokenizer: Tokenizer) -> None:
    assert b"".join(map(tokenizer.id_to_bytes, range(FIRST_BYTE, FIRST_WORD))) == bytes(range(256))


@given(st.lists(st.integers(0, VOCAB_SIZE - 1), max_size=60), st.booleans())
def test_stream_is_decode(tokenizer: Tokenizer, ids: list[int], skip: bool) -> None:
    decoder = StreamDecoder(tokenizer, skip_special_tokens=skip)
    streamed = "".join([decoder.push(i) for i in ids] + [decoder.flush()])
    assert streamed == tokenizer.decode(ids, skip_special_tokens=skip)
    assert decoder.flush() == ""


@given(st.text(max_size=40))
def test_characters_come_whole_and_at_once(tokenizer: Tokenizer, text: str) -> None:
    decoder = StreamDecoder(tokenizer)
    for character in text:
        *most, last = of_bytes(character.encode())
        assert [decoder.push(i) for i in most] == [""] * len(most)
        assert decoder.push(last) == character


@given(st.binary(max_size=40))
def test_invalid_bytes(tokenizer: Tokenizer, data: bytes) -> None:
    """As SentencePiece: the longest valid character, else U+FFFD for one byte."""
    expected, position = "", 0
    while position < len(data):
        for size in (1, 2, 3, 4):
            try:
                expected += data[position : position + size].decode()
            except UnicodeDecodeError:
                continue
            position += size
            break
        else:
            expected += "\ufffd"
            position += 1
    assert tokenizer.decode(of_bytes(data)) == expected


def test_half_a_character(tokenizer: Tokenizer) -> None:
    decoder = StreamDecoder(tokenizer)
    assert [decoder.push(i) for i in of_bytes("😀".encode()[:3])] == ["", "", ""]
    assert decoder.flush() == "\ufffd" * 3
    assert [decoder.push(i) for i in of_bytes(b"\xe4\xbdA")] == ["", "", "\ufffd\ufffdA"]


def test_special_tokens_part_bytes(tokenizer: Tokenizer) -> None:
    first, *rest = of_bytes("é".encode())
    assert tokenizer.decode([first, 1, *rest]) == "\ufffd\ufffd"
    assert tokenizer.decode([first, 1, *rest], skip_special_tokens=False) == "\ufffd<s>\ufffd"


def test_leading_space_is_kept(tokenizer: Tokenizer) -> None:
    assert StreamDecoder(tokenizer).push(FIRST_WORD) == " hello"


def test_ids_outside_the_vocabulary(tokenizer: Tokenizer) -> None:
    with pytest.raises(RequestError, match=f"token id {VOCAB_SIZE} "):
        StreamDecoder(tokenizer).push(VOCAB_SIZE)
