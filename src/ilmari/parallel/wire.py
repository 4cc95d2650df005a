"""Byte strings on a stream: each after its length, eight bytes with the lowest first."""

from __future__ import annotations

import socket

_LENGTH = 8
MAX_BYTES = 1 << 30
"""Anything longer is no message."""


def send(connection: socket.socket, data: bytes) -> None:
    """Send one byte string.

    Raises:
        OSError: the other end is gone.
    """
    connection.sendall(len(data).to_bytes(_LENGTH, "little") + data)


def receive(connection: socket.socket, most: int = MAX_BYTES) -> bytes | None:
    """Wait for one byte string; None where the stream ends, or holds something else, or one longer than `most` bytes.

    Raises:
        OSError: the other end is gone, or silent for longer than the socket's timeout.
    """
    length = _exactly(connection, _LENGTH)
    if length is None or (size := int.from_bytes(length, "little")) > most:
        return None
    return _exactly(connection, size)


def _exactly(connection: socket.socket, size: int) -> bytes | None:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        count = connection.recv_into(view)
        if not count:
            return None
        view = view[count:]
    return bytes(data)
