"""The engine's process: `python -m ilmari.engine.process FD`, FD being one end of a socket to the front end.

Where a model has several ranks, this process starts them, each as `python -m ilmari.engine.process PATH`, and rank 0
gets the socket from there (see `launcher`).
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from ilmari.artifact.artifact import TOKENIZER, Artifact
from ilmari.engine.engine import Engine
from ilmari.engine.frames import FrameReader, frame
from ilmari.engine.launcher import launch, receive_front_end
from ilmari.engine.messages import Failed, Finish, FromEngine, Lost, Ready, Score, Start, Step, Submit, ToEngine
from ilmari.engine.ranks import USER_ERROR, form
from ilmari.engine.scoring import score
from ilmari.engine.worker import Worker
from ilmari.errors import IlmariError
from ilmari.model.tokenizer import Tokenizer
from ilmari.parallel.member import Member
from ilmari.parallel.mpi import abort
from ilmari.parallel.parent import die_with_parent
from ilmari.settings import mpi_world

_CHUNK = 1 << 16
_LAST_WORDS = 1.0  # seconds that another message may take
_TO_BE_READ = 0.2


class Inbox:
    """Messages from the front end, read by a thread of its own; the process ends with the connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._messages: queue.SimpleQueue[ToEngine] = queue.SimpleQueue()
        self.at_end: Callable[[], None] = lambda: None
        threading.Thread(target=self._read, daemon=True).start()

    def get(self) -> ToEngine:
        """The next message, waited for."""
        return self._messages.get()

    def waiting(self) -> list[ToEngine]:
        """The messages that are there already."""
        messages = []
        with contextlib.suppress(queue.Empty):
            while True:
                messages.append(self._messages.get_nowait())
        return messages

    def _read(self) -> None:
        frames: FrameReader[ToEngine] = FrameReader(ToEngine)
        code = 1
        try:
            while data := self._connection.recv(_CHUNK):
                for message in frames.feed(data):
                    self._messages.put(message)
            code = 0
        except ConnectionResetError:
            code = 0
        except Exception:
            traceback.print_exc()
        finally:
            self.at_end()
            os._exit(code)  # at once: nobody waits for the step that may be running


class Outbox:
    """Messages to the front end, which always reads, so sending waits only while it is stopped."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, message: FromEngine) -> None:
        """Send one, after any that another thread is sending."""
        with self._lock:
            self._connection.sendall(frame(message))

    def send_last(self, words: str) -> None:
        """Say why the engine ends, if that can still be said."""
        if self._lock.acquire(timeout=_LAST_WORDS):
            with contextlib.suppress(OSError):
                self._connection.sendall(frame(Lost(words)))
                self._connection.shutdown(socket.SHUT_WR)
            # What the front end has sent meanwhile is still read, or it would see a broken connection and no words.
            time.sleep(_TO_BE_READ)


def main() -> None:
    """Load the artifact that the first message names, then serve until the front end is gone."""
    for interruption in (signal.SIGINT, signal.SIGTERM):
        signal.signal(interruption, signal.SIG_IGN)  # the front end is told too, and may let replies end first
    if not sys.argv[1].isdecimal():
        connection, start = _as_rank(sys.argv[1])
    else:
        connection = socket.socket(fileno=int(sys.argv[1]))
        start = _first_message(connection)
        try:
            ranks = Artifact.open(Path(os.fsdecode(start.folder))).manifest.tp
            start.placement.check(ranks)
            if ranks > 1 and not mpi_world():
                sys.exit(launch(connection, frame(start), ranks, start.placement.hosts))
        except IlmariError as error:
            _refuse(Outbox(connection), error)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        _serve(start, Inbox(connection), Outbox(connection))


def _first_message(connection: socket.socket) -> Start:
    frames: FrameReader[Start] = FrameReader(Start)
    while data := connection.recv(_CHUNK):
        for message in frames.feed(data):
            return message
    sys.exit(0)  # the front end is gone already


def _as_rank(path: str) -> tuple[socket.socket, Start]:
    """On rank 0 the socket to the front end and its first message; other ranks do what rank 0 tells them, and end."""
    die_with_parent()
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # from MPI's launcher when another rank ends
    rank, size = mpi_world() or (0, 1)
    try:
        if rank:
            form(size)
        connection, launcher, start = receive_front_end(path)
    except IlmariError as error:
        print(f"error: {Member.self(rank)}: {error}", file=sys.stderr, flush=True)
        if rank == 0:
            abort(USER_ERROR)
        sys.exit(USER_ERROR)
    threading.Thread(target=_end_with, args=(launcher,), daemon=True).start()
    (message,) = FrameReader[Start](Start).feed(start)
    return connection, message


def _end_with(launcher: socket.socket) -> None:
    launcher.recv(1)
    os._exit(1)


def _refuse(outbox: Outbox, error: IlmariError) -> None:
    sentence = str(error).encode(errors="backslashreplace").decode()  # a path may be no Unicode
    outbox.send(Failed(type(error).__name__, sentence))
    sys.exit(USER_ERROR)


def _serve(start: Start, inbox: Inbox, outbox: Outbox) -> None:
    folder = Path(os.fsdecode(start.folder))
    try:
        manifest = Artifact.open(folder).manifest
        group = form(manifest.tp, start.placement.devices, outbox.send_last)
        inbox.at_end = group.abandon
        artifact = Artifact.load(folder, group.rank)
        tokenizer = Tokenizer.load(artifact.folder / TOKENIZER)
        engine = Engine(artifact, throughput=manifest.throughput, group=group, **start.options.given)
    except IlmariError as error:
        _refuse(outbox, error)
    engine.prepare()
    outbox.send(Ready(engine.stats()))
    worker = Worker(engine, tokenizer.stop_token_ids)
    while True:
        deltas = []
        for message in inbox.waiting() if engine.has_work else [inbox.get(), *inbox.waiting()]:
            match message:
                case Submit():
                    deltas += worker.submit(message)
                case Finish():
                    worker.finish(message.request_id)
                case Score():
                    for answer in score(engine, message):
                        outbox.send(answer)
        if engine.has_work:
            deltas += worker.step()
        outbox.send(Step(deltas, engine.stats()))


if __name__ == "__main__":
    main()
