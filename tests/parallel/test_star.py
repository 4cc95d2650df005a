"""Ranks find rank 0 over TCP, whoever else knocks there."""

import socket
import threading

import pytest

from ilmari.parallel import star
from ilmari.parallel.member import Member
from ilmari.parallel.star import Link, Listener, connect

RANK0, RANK1 = Member(0, "here", 1), Member(1, "here", 2)


def test_strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(star, "HELLO_TIMEOUT", 0.1)
    listener = Listener()
    place = ("127.0.0.1", listener.meeting.port)
    silent, loud, huge = (socket.create_connection(place) for _ in range(3))
    loud.sendall(b"GET / HTTP/1.1\r\n\r\n")
    huge.sendall((1 << 29).to_bytes(8, "little"))
    links: list[Link] = []
    rank1 = threading.Thread(target=lambda: links.append(connect(listener.meeting, RANK1)))
    rank1.start()
    links += listener.accept(RANK0, 2)
    rank1.join(60)
    assert {link.member for link in links} == {RANK0, RANK1}
    for end in (silent, loud, huge, *(each for link in links for each in (link.data, link.beats))):
        end.close()
