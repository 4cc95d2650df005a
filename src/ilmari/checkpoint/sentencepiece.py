"""SentencePiece BPE models, converted to the `tokenizers` library's format.

A model is a protocol-buffer message (`sentencepiece_model.proto`). The few fields needed are read here, because the
official reader wants the protobuf package and one release of `sentencepiece` refuses InternLM2's NUL piece.
"""

import struct
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Any

from ilmari.checkpoint.folder import read_bounded
from ilmari.errors import CheckpointError
from ilmari.model.tokenizer import SPACE_MARK

_MAX_BYTES = 64 << 20

# Fields of ModelProto, and of its SentencePiece message.
_PIECES, _TRAINER, _NORMALIZER, _DENORMALIZER = 1, 2, 3, 5
_PIECE, _SCORE, _TYPE = 1, 2, 3

# (message, field, name, default, value that the conversion can represent)
_SETTINGS = (
    (_TRAINER, 3, "trainer_spec.model_type", 1, 2),
    (_TRAINER, 24, "trainer_spec.treat_whitespace_as_suffix", 0, 0),
    (_TRAINER, 35, "trainer_spec.byte_fallback", 0, 1),
    (_NORMALIZER, 2, "normalizer_spec.precompiled_charsmap", b"", b""),
    (_NORMALIZER, 3, "normalizer_spec.add_dummy_prefix", 1, 0),
    (_NORMALIZER, 4, "normalizer_spec.remove_extra_whitespaces", 1, 0),
    (_NORMALIZER, 5, "normalizer_spec.escape_whitespaces", 1, 1),
    (_DENORMALIZER, 2, "denormalizer_spec.precompiled_charsmap", b"", b""),
)


class PieceType(IntEnum):
    """What SentencePiece does with a piece; the values are those of the file format."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class Piece:
    """One token: its text with U+2581 for spaces, its merge priority (higher merges first) and its type."""

    text: str
    score: float
    type: PieceType


def read_pieces(path: Path) -> list[Piece]:
    """The pieces of the SentencePiece BPE model at `path`; a piece's position is its id.

    Raises:
        CheckpointError: the file is damaged, or the model normalises text in a way the conversion cannot represent.
    """
    try:
        specs: dict[int, dict[int, int | bytes]] = {_TRAINER: {}, _NORMALIZER: {}, _DENORMALIZER: {}}
        pieces = []
        for field, value in _fields(read_bounded(path, _MAX_BYTES)):
            if field == _PIECES:
                pieces.append(_piece(value))
            elif field in specs:
                specs[field].update(_fields(value))
    except ValueError as error:
        raise CheckpointError(f"{path} is not a SentencePiece model ({error}); download it again.") from error
    for spec, field, name, default, expected in _SETTINGS:
        if (found := specs[spec].get(field, default)) != expected:
            shown = found if isinstance(found, int) else f"{len(found)} bytes long"
            raise CheckpointError(f"{path}: {name} is {shown}; only {expected!r} can be converted.")
    types = {piece.type for piece in pieces}
    if PieceType.UNUSED in types:
        raise CheckpointError(f"{path} has pieces of type UNUSED, which cannot be converted.")
    if {piece.text for piece in pieces if piece.type is PieceType.BYTE} != {f"<0x{byte:02X}>" for byte in range(256)}:
        raise CheckpointError(f"{path} must have one byte piece for each of <0x00> to <0xFF>.")
    if PieceType.UNKNOWN not in types:
        raise CheckpointError(f"{path} has no piece of type UNKNOWN.")
    return pieces


def tokenizers_definition(pieces: Mapping[int, Piece]) -> dict[str, Any]:
    """The content of a `tokenizer.json` that encodes and decodes as SentencePiece does.

    `pieces` maps ids to pieces with distinct texts. User-defined pieces become added tokens, found in text before any
    merge, longest first. Control pieces do not: SentencePiece never finds them in text.

    Raises:
        CheckpointError: the merges cannot be represented.
    """
    user_defined = sorted(i for i, piece in pieces.items() if piece.type is PieceType.USER_DEFINED)
    unknown = next(piece.text for piece in pieces.values() if piece.type is PieceType.UNKNOWN)
    scores = {piece.text: piece.score for piece in pieces.values() if piece.type is PieceType.NORMAL}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": pieces[i].text, **flags} for i in user_defined],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": SPACE_MARK},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": SPACE_MARK}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": unknown,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": {pieces[i].text: i for i in sorted(pieces)},
            "merges": merges(scores),
        },
    }


def merges(scores: Mapping[str, float]) -> list[tuple[str, str]]:
    """The ordered merge list that is equivalent to SentencePiece's rule.

    SentencePiece merges the adjacent pair whose concatenation scores highest, the leftmost of equals. The two halves
    of a piece can only ever meet in the way in which the piece's own text is merged, because what happens inside a
    span does not depend on its surroundings. So each piece has exactly one merge, and equal pieces have equal rank.
    Different pieces of equal score need an order where one may overlap the other: the left one first. That is all that
    ties ask for if no piece scores above its own halves, as in InternLM2.

    Raises:
        CheckpointError: no order represents the scores, or a piece needs a character that is not a piece.
    """
    halves = {text: pair for text in scores if (pair := _last_merge(text, scores))}
    if strange := next((text for text, pair in halves.items() if not scores.keys() >= set(pair)), None):
        raise CheckpointError(
            f"piece {strange!r} of the SentencePiece model has a character that is not a piece itself."
        )
    tied: dict[float, list[str]] = defaultdict(list)
    for text in halves:
        tied[scores[text]].append(text)
    return [halves[text] for score in sorted(tied, reverse=True) for text in _left_first(tied[score], halves)]


def _last_merge(text: str, scores: Mapping[str, float]) -> tuple[str, str] | None:
    """The two halves that SentencePiece joins last when it encodes `text`; None if it never gets to join them."""
    symbols = list(text)
    while len(symbols) > 2:
        pairs = [left + right for left, right in pairwise(symbols)]
        best = max(pairs, key=lambda pair: scores.get(pair, -inf))  # the leftmost of equals
        if best not in scores:
            return None
        position = pairs.index(best)
        symbols[position : position + 2] = [best]
    return (symbols[0], symbols[1]) if len(symbols) == 2 else None


def _left_first(texts: list[str], halves: Mapping[str, tuple[str, str]]) -> list[str]:
    """Pieces of one score, a piece whose right half is another's left half before that other."""
    if len(texts) == 1:
        return texts
    starting: dict[str, list[str]] = defaultdict(list)
    for text in texts:
        starting[halves[text][0]].append(text)
    order = TopologicalSorter[str](dict.fromkeys(texts, ()))
    for text in texts:
        for later in starting[halves[text][1]]:
            if later != text:
                order.add(later, text)
    try:
        return list(order.static_order())
    except CycleError as error:
        raise CheckpointError(f"the SentencePiece model scores pieces {error.args[1]} alike; no order fits.") from error


def _piece(message: int | bytes) -> Piece:
    values = dict(_fields(message))
    text, score, kind = values.get(_PIECE, b""), values.get(_SCORE, bytes(4)), values.get(_TYPE, PieceType.NORMAL)
    if (
        not (isinstance(text, bytes) and isinstance(score, bytes) and isinstance(kind, int))
        or len(score) != 4
        or not text
    ):
        raise ValueError("a piece is empty or has a field of the wrong type")
    return Piece(text.decode(), struct.unpack("<f", score)[0], PieceType(kind))


def _fields(message: int | bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of each field of a protocol-buffer message: int for varints, bytes for everything else.

    Raises:
        ValueError: the message ends inside a field, or a field has a type that no longer exists.
    """
    if isinstance(message, int):
        raise ValueError("a number stands where a message was expected")  # noqa: TRY004 - the file is wrong, not us
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, wire_type = key >> 3, key & 7
        if wire_type == 0:
            value, position = _varint(message, position)
            yield number, value
            continue
        if wire_type == 2:
            size, position = _varint(message, position)
        elif wire_type in _FIXED_SIZE:
            size = _FIXED_SIZE[wire_type]
        else:
            raise ValueError(f"field {number} has wire type {wire_type}")
        if size > len(message) - position:
            raise ValueError(f"field {number} ends beyond the file")
        yield number, message[position : position + size]
        position += size


_FIXED_SIZE = {1: 8, 5: 4}


def _varint(message: bytes, position: int) -> tuple[int, int]:
    """The base-128 number at `position`, and the position after it."""
    number = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            raise ValueError("it ends inside a number")
        byte = message[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
    raise ValueError("a number is longer than 64 bits")
