"""Signs of life between two processes: who is silent for too long, or gone, is lost."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Callable, Mapping

from ilmari.parallel.guarded import Guard
from ilmari.parallel.member import Member

BEAT = 0.5
"""Seconds between two signs of life."""

MOST_MISSED = 10
"""Beats of our own clock without a sign of the other: then it is lost."""

_BEAT = b"\0"
_GOODBYE = "\n"
_CHUNK = 4096


class Heart:
    """A thread that beats for this process, and listens to the others.

    It beats through kernels and collectives, which leave the interpreter to other threads, so a long step is no
    silence. Silence is counted in beats of our own: after a time in which the whole machine slept, or this process was
    stopped, nobody is to blame.
    """

    def __init__(
        self,
        others: Mapping[socket.socket, Member],
        guard: Guard,
        lost: Callable[[str], None],
        told: Callable[[str], None],
    ) -> None:
        """others: connected sockets that nobody else uses, and who is at their other end; guard: this process's.

        `lost` is called once, in the thread, with a sentence on who it is; `told` instead of it if another member said
        why the group ends, with what it said.
        """
        self._others = others
        self._guard = guard
        self._lost = lost
        self._told = told
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heart", daemon=True)
        for connection in others:
            connection.setblocking(False)

    def start(self) -> None:
        """Beat from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Beat no longer, and blame nobody from now on."""
        if not self._stopped.is_set():
            self._stopped.set()
            self._guard.dismiss()

    def say(self, last_words: str = "") -> None:
        """Stop, and tell the others to end, and why if it is no good end."""
        self.stop()
        for connection in self._others:
            with contextlib.suppress(OSError):
                connection.send((last_words or _GOODBYE).encode())

    def _run(self) -> None:
        silent = dict.fromkeys(self._others, 0)
        with selectors.DefaultSelector() as selector:
            for connection in self._others:
                selector.register(connection, selectors.EVENT_READ)
            next_beat = time.monotonic()
            while not self._stopped.is_set():
                for key, _ in selector.select(max(0.0, next_beat - time.monotonic())):
                    assert isinstance(key.fileobj, socket.socket)
                    silent[key.fileobj] = 0
                    if end := self._listen(key.fileobj):
                        return None if self._stopped.is_set() else end()
                if time.monotonic() < next_beat:
                    continue
                next_beat = time.monotonic() + BEAT
                self._guard.beat()
                for connection, member in self._others.items():
                    silent[connection] += 1
                    if silent[connection] > MOST_MISSED:
                        return self._lost(f"{member}, has been silent for {MOST_MISSED * BEAT:g} s.")
                    with contextlib.suppress(OSError):  # a full buffer is silence, an error will be read
                        connection.send(_BEAT)
        return None

    def _listen(self, connection: socket.socket) -> Callable[[], None] | None:
        """What is to be done if the other end will say nothing more."""
        member = self._others[connection]
        try:
            data = connection.recv(_CHUNK)
        except BlockingIOError:
            return None
        except ConnectionError:  # it ended with beats that it had not read
            data = b""
        except OSError as error:
            reason = error.strerror
            return lambda: self._lost(f"{member}, cannot be reached ({reason}).")
        if not data:
            return lambda: self._lost(f"{member}, has ended.")
        words = data.replace(_BEAT, b"").decode(errors="replace")
        return (lambda: self._told(words.strip())) if words else None
