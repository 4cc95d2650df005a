"""Server-sent events out of the bytes of a stream, however they are cut."""

from __future__ import annotations

import re

_END = re.compile(rb"\r?\n\r?\n")


class EventStream:
    """Takes bytes as they come, and gives the data of each event that is whole."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The data of the events that end in `data`; comments and other fields are passed over."""
        *whole, self._rest = _END.split(self._rest + data)
        return [payload for payload in map(_payload, whole) if payload]


def _payload(event: bytes) -> bytes:
    lines = (line for line in event.splitlines() if line.startswith(b"data:"))
    return b"\n".join(line[5:].removeprefix(b" ") for line in lines)
