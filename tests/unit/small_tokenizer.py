"""Tokenizers of a few pieces, and a reference beside each; the protocol buffer is written here, by hand."""

import json
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import sentencepiece

from ilmari.checkpoint.sentencepiece import PieceType
from ilmari.checkpoint.tokenizer import tokenizer_files
from ilmari.model.tokenizer import Tokenizer

NAMES = {"bos_token": "<s>", "eos_token": "</s>"}


class Pair(NamedTuple):
    """The tokenizer under test and its independent reference."""

    tokenizer: Tokenizer
    reference: sentencepiece.SentencePieceProcessor

    def reference_ids(self, text: str) -> list[int]:
        """Ids of an InternLM text; SentencePiece 0.2.3 alone reads NUL as byte 3, but there is a piece for it."""
        return [354 if i == 3 else i for i in self.reference.encode(text)]


def load(folder: Path, vocab_size: int) -> Tokenizer:
    """Convert the checkpoint `folder`, write the artifact's files below it and load them."""
    artifact = folder / "artifact"
    artifact.mkdir()
    for name, content in tokenizer_files(folder, vocab_size).items():
        (artifact / name).write_bytes(content)
    return Tokenizer.load(artifact)


def pair(folder: Path, vocab_size: int) -> Pair:
    reference = sentencepiece.SentencePieceProcessor(str(folder / "tokenizer.model"))
    return Pair(load(folder, vocab_size), reference)


def varint(number: int) -> bytes:
    return bytes([number & 0x7F | 0x80]) + varint(number >> 7) if number > 0x7F else bytes([number])


def field(number: int, value: int | float | bytes) -> bytes:
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    return varint(number << 3) + varint(value)


TRAINER = {3: 2, 35: 1, 40: 0, 41: 1, 42: 2}
NORMALIZER: dict[int, int | bytes] = {1: b"identity", 3: 0, 4: 0, 5: 1}


def model(
    pieces: Iterable[tuple[str, float, PieceType]],
    trainer: dict[int, int] | None = None,
    normalizer: dict[int, int | bytes] | None = None,
    *,
    with_bytes: bool = True,
) -> bytes:
    """A SentencePiece model of three reserved pieces, 256 bytes and `pieces`."""
    reserved = [("<unk>", 0.0, PieceType.UNKNOWN), ("<s>", 0.0, PieceType.CONTROL), ("</s>", 0.0, PieceType.CONTROL)]
    byte_pieces = [(f"<0x{byte:02X}>", 0.0, PieceType.BYTE) for byte in range(256 * with_bytes)]
    message = b"".join(
        field(1, field(1, text.encode()) + field(2, score) + field(3, int(kind)))
        for text, score, kind in [*reserved, *byte_pieces, *pieces]
    )
    for number, spec in ((2, TRAINER | (trainer or {})), (3, NORMALIZER | (normalizer or {}))):
        message += field(number, b"".join(field(key, value) for key, value in spec.items()))
    return message


SMALL = [
    ("a", -9.0, PieceType.NORMAL),
    ("b", -8.0, PieceType.NORMAL),
    ("ab", -1.0, PieceType.NORMAL),
    ("▁", -7.0, PieceType.NORMAL),
    ("▁a", -0.5, PieceType.NORMAL),
    ("▁▁", 0.0, PieceType.USER_DEFINED),
    ("ab▁b", 0.0, PieceType.USER_DEFINED),
    ("[UNUSED]", 0.0, PieceType.USER_DEFINED),
]
SMALL_VOCAB = 3 + 256 + len(SMALL)


def checkpoint(folder: Path, content: bytes, **tokenizer_config: Any) -> Path:
    """A checkpoint folder with nothing but a tokenizer."""
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.model").write_bytes(content)
    (folder / "tokenizer_config.json").write_text(json.dumps(NAMES | tokenizer_config))
    return folder
