"""Messages on a stream: each a MessagePack document after its length, four bytes with the lowest first."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

MAX_FRAME = 1 << 30
"""Bytes. The longest that can be meant are log-probabilities of long prompts; anything above is no frame."""

_LENGTH = 4
_ENCODER = msgspec.msgpack.Encoder()

Message = TypeVar("Message")


def frame(message: msgspec.Struct) -> bytes:
    """A message as it goes over the wire.

    Raises:
        TypeError, ValueError: it holds something that MessagePack has no form for: a lone surrogate, a huge integer.
    """
    buffer = bytearray(_LENGTH)
    try:
        _ENCODER.encode_into(message, buffer, _LENGTH)
    except OverflowError as error:
        raise ValueError(str(error)) from error
    size = len(buffer) - _LENGTH
    if size > MAX_FRAME:
        raise ValueError(f"a message of {size:,} bytes is longer than {MAX_FRAME:,}")
    buffer[:_LENGTH] = size.to_bytes(_LENGTH, "little")
    return bytes(buffer)


class FrameReader(Generic[Message]):
    """Puts frames together from the pieces in which a stream brings them."""

    def __init__(self, kind: Any) -> None:
        """`kind`: the type of every message, or a union of types."""
        self._decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(kind)
        self._held = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """The messages that are complete with `data`.

        Raises:
            ValueError: a frame that is too long, or holds no message of the kind; nothing after it can be read.
        """
        self._held += data
        messages = []
        start = 0
        while (begin := start + _LENGTH) <= len(self._held):
            size = int.from_bytes(self._held[start:begin], "little")
            if size > MAX_FRAME:
                raise ValueError(f"a frame of {size:,} bytes is longer than {MAX_FRAME:,}")
            if begin + size > len(self._held):
                break
            start = begin + size
            messages.append(self._decoder.decode(bytes(self._held[begin:start])))
        del self._held[:start]
        return messages
