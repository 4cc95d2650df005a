"""The engine's process: `python -m ilmari.engine.process FD`, FD being one end of a socket to the front end."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import sys
import threading
import traceback
from pathlib import Path

from ilmari.artifact.artifact import TOKENIZER, Artifact
from ilmari.engine.engine import Engine
from ilmari.engine.frames import FrameReader, frame
from ilmari.engine.messages import Failed, Finish, Ready, Start, Step, Submit, ToEngine
from ilmari.engine.worker import Worker
from ilmari.errors import IlmariError
from ilmari.model.tokenizer import Tokenizer

USER_ERROR = 2
_CHUNK = 1 << 16


class Inbox:
    """Messages from the front end, read by a thread of its own; the process ends with the connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._messages: queue.SimpleQueue[ToEngine] = queue.SimpleQueue()
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
            os._exit(code)  # at once: nobody waits for the step that may be running


def main() -> None:
    """Load the artifact that the first message names, then serve until the front end is gone."""
    for interruption in (signal.SIGINT, signal.SIGTERM):
        signal.signal(interruption, signal.SIG_IGN)  # the front end is told too, and may let replies end first
    connection = socket.socket(fileno=int(sys.argv[1]))
    inbox = Inbox(connection)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        _serve(connection, inbox)


def _serve(connection: socket.socket, inbox: Inbox) -> None:
    start = inbox.get()
    assert isinstance(start, Start)
    try:
        artifact = Artifact.load(Path(os.fsdecode(start.folder)))
        tokenizer = Tokenizer.load(artifact.folder / TOKENIZER)
        engine = Engine(artifact, throughput=artifact.manifest.throughput, **start.options.given)
    except IlmariError as error:
        sentence = str(error).encode(errors="backslashreplace").decode()  # a path may be no Unicode
        connection.sendall(frame(Failed(type(error).__name__, sentence)))
        sys.exit(USER_ERROR)
    engine.prepare_grammars()
    connection.sendall(frame(Ready(engine.stats())))
    worker = Worker(engine, tokenizer.stop_token_ids)
    while True:
        deltas = []
        for message in inbox.waiting() if engine.has_work else [inbox.get(), *inbox.waiting()]:
            match message:
                case Submit():
                    deltas += worker.submit(message)
                case Finish():
                    worker.finish(message.request_id)
        if engine.has_work:
            deltas += worker.step()
        # The front end always reads, so this waits only while it is stopped.
        connection.sendall(frame(Step(deltas, engine.stats())))


if __name__ == "__main__":
    main()
