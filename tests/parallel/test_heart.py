"""Signs of life over sockets: who is silent, gone or says goodbye is told apart."""

import socket
import time
from collections.abc import Iterator
from queue import Empty, SimpleQueue

import pytest

from ilmari.parallel import heart
from ilmari.parallel.heart import Heart
from ilmari.parallel.member import Member

OTHER = Member(1, "there", 123)


class NoGuard:
    def beat(self) -> None:
        pass

    def dismiss(self) -> None:
        pass


class Pair:
    """A heart, what it says, and the other end of its socket."""

    def __init__(self) -> None:
        self.ours, self.other = socket.socketpair()
        self.said: SimpleQueue[tuple[str, str]] = SimpleQueue()
        self.heart = Heart(
            {self.ours: OTHER},
            NoGuard(),  # type: ignore[arg-type]
            lost=lambda who: self.said.put(("lost", who)),
            told=lambda why: self.said.put(("told", why)),
        )
        self.heart.start()


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    monkeypatch.setattr(heart, "BEAT", 0.02)
    made = Pair()
    yield made
    made.heart.stop()
    made.heart._thread.join()
    made.other.close()
    made.ours.close()


def test_it_beats_and_blames_nobody_who_does(pair: Pair) -> None:
    until = time.monotonic() + 1
    while time.monotonic() < until:
        assert pair.other.recv(1) == b"\0"
        pair.other.send(b"\0")
    with pytest.raises(Empty):
        pair.said.get_nowait()


def test_silence(pair: Pair) -> None:
    kind, who = pair.said.get(timeout=30)
    assert kind == "lost"
    assert who.startswith("rank 1 on host there, process 123, has been silent for")


def test_an_end(pair: Pair) -> None:
    pair.other.close()
    assert pair.said.get(timeout=30) == ("lost", "rank 1 on host there, process 123, has ended.")


@pytest.mark.parametrize(("words", "want"), [("\n", ""), ("Rank 2 is gone.", "Rank 2 is gone.")])
def test_last_words(pair: Pair, words: str, want: str) -> None:
    pair.other.send(b"\0" + words.encode() + b"\0")
    assert pair.said.get(timeout=30) == ("told", want)


def test_what_it_says_at_its_own_end(pair: Pair) -> None:
    pair.heart.say("Enough.")
    said = b""
    while b"Enough." not in said:
        said += pair.other.recv(100)
    with pytest.raises(Empty):
        pair.said.get(timeout=0.5)
