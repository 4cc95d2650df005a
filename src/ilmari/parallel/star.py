"""Sockets from rank 0 to every other rank: one for data, one for signs of life.

MPI waits with all of a core's time, and cannot be told that a peer is gone. So what an idle rank waits for, and what
tells that another lives, goes over TCP; MPI is for the collectives within a step.
"""

from __future__ import annotations

import fcntl
import hmac
import secrets
import socket
import struct
import time
from dataclasses import dataclass

import msgspec

from ilmari.errors import GroupError
from ilmari.parallel import wire
from ilmari.parallel.member import Member

JOIN_TIMEOUT = 30.0
"""Seconds within which all ranks, which MPI has started by then, are connected."""

HELLO_TIMEOUT = 1.0
"""Seconds that one connection may take; who is next waits."""

_MOST_BYTES = 1 << 12  # that who is not known yet may send
_GET_ADDRESS = 0x8915  # SIOCGIFADDR
_LOOPBACK = "127.0.0.1"


class Meeting(msgspec.Struct, frozen=True):
    """Where rank 0 listens, and what to say there; `addresses` are tried in order."""

    addresses: list[str]
    port: int
    token: bytes


class _Hello(msgspec.Struct, frozen=True):
    token: bytes
    member: Member
    beats: bool


_HELLO = msgspec.msgpack.Decoder(_Hello)
_MEMBER = msgspec.msgpack.Decoder(Member)


@dataclass(frozen=True)
class Link:
    """Two connections to one other process."""

    member: Member
    data: socket.socket
    beats: socket.socket


class Listener:
    """Rank 0's end, until all others are connected."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("", 0), backlog=64)
        port = self._socket.getsockname()[1]
        self.meeting = Meeting([_LOOPBACK, *_addresses()], port, secrets.token_bytes(16))

    def accept(self, me: Member, size: int) -> list[Link]:
        """Links to the ranks from 1 to size - 1.

        Raises:
            GroupError: they do not come.
        """
        data: dict[int, tuple[Member, socket.socket]] = {}
        beats: dict[int, socket.socket] = {}
        until = time.monotonic() + JOIN_TIMEOUT
        with self._socket:
            while len(data) < size - 1 or len(beats) < size - 1:
                self._socket.settimeout(max(0.01, until - time.monotonic()))
                try:
                    connection, _ = self._socket.accept()
                except TimeoutError as error:
                    missing = ", ".join(str(rank) for rank in range(1, size) if rank not in data or rank not in beats)
                    raise GroupError(f"Ranks {missing} do not reach rank 0 on host {me.host} over TCP.") from error
                hello = self._welcome(connection, me)
                if hello is None:
                    connection.close()
                elif hello.beats:
                    beats[hello.member.rank] = connection
                else:
                    data[hello.member.rank] = hello.member, connection
        return [_link(*data[rank], beats[rank]) for rank in range(1, size)]

    def _welcome(self, connection: socket.socket, me: Member) -> _Hello | None:
        """What a rank says, which is told who this is; None: it is somebody else."""
        connection.settimeout(HELLO_TIMEOUT)
        try:
            hello = _HELLO.decode(wire.receive(connection, _MOST_BYTES) or b"")
            if not hmac.compare_digest(hello.token, self.meeting.token):
                return None
            wire.send(connection, msgspec.msgpack.encode(me))
        except (OSError, msgspec.DecodeError):
            return None
        return hello


def connect(meeting: Meeting, me: Member) -> Link:
    """A link to rank 0.

    Raises:
        GroupError: it cannot be reached.
    """
    for address in meeting.addresses:
        try:
            rank0, data = _greet(address, meeting, me, beats=False)
            return _link(rank0, data, _greet(address, meeting, me, beats=True)[1])
        except (OSError, msgspec.DecodeError):  # not there, or somebody else's port
            continue
    raise GroupError(
        f"{str(me).capitalize()}, cannot reach rank 0 at port {meeting.port} of {', '.join(meeting.addresses)}; let "
        "the hosts connect to each other over TCP."
    )


def _greet(address: str, meeting: Meeting, me: Member, *, beats: bool) -> tuple[Member, socket.socket]:
    connection = socket.create_connection((address, meeting.port), timeout=JOIN_TIMEOUT / 10)
    wire.send(connection, msgspec.msgpack.encode(_Hello(meeting.token, me, beats)))
    return _MEMBER.decode(wire.receive(connection, _MOST_BYTES) or b""), connection


def _link(member: Member, data: socket.socket, beats: socket.socket) -> Link:
    for connection in (data, beats):
        connection.settimeout(None)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Link(member, data, beats)


def _addresses() -> list[str]:
    """This machine's own IPv4 addresses, loopback aside."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                answer = fcntl.ioctl(any_socket, _GET_ADDRESS, request)
            except OSError:  # it has none
                continue
            found.append(socket.inet_ntoa(answer[20:24]))
    return [address for address in found if not address.startswith("127.")]
