"""One life of the engine's process, seen from the front end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import Callable
from pathlib import Path
from typing import cast

import msgspec

from ilmari.engine.frames import FrameReader, frame
from ilmari.engine.messages import Failed, FromEngine, Lost, Ready, Start, Step
from ilmari.engine.options import EngineOptions, Placement
from ilmari.errors import IlmariError
from ilmari.settings import mpi_descriptors

COMMAND = (sys.executable, "-P", "-m", "ilmari.engine.process")
"""Starts an engine; the number of a socket is to follow."""

ERRORS = {kind.__name__: kind for kind in IlmariError.__subclasses__()}
_STDERR = 2
_LAST_WORDS = 3.0  # seconds from the end of the connection to that of the process, if it is not to be killed


class EngineDead(Exception):  # noqa: N818 - a state, not a mistake
    """The engine's process ended, or is being started again: nobody's mistake, and it helps to ask again later."""


class EngineProcess(asyncio.Protocol):
    """A child process and the socket to it; when one ends, so does the other.

    What it sends is read at once and handed on, so it never waits for slow readers. `received` counts its steps;
    `last_words` is why it ends, if it says so; `ended` is set as soon as nothing more can come.
    """

    _process: Process
    _transport: asyncio.Transport

    def __init__(self, on_step: Callable[[Step], None]) -> None:
        """For `start`."""
        self._on_step = on_step
        self._frames: FrameReader[FromEngine] = FrameReader(FromEngine)
        self._answer: asyncio.Future[Ready | Failed | None] = asyncio.get_running_loop().create_future()
        self.last_words = ""
        self.ended = asyncio.Event()
        self.received = 0

    @classmethod
    async def start(
        cls, folder: Path, options: EngineOptions, placement: Placement, on_step: Callable[[Step], None]
    ) -> EngineProcess:
        """Start a process and wait until it has loaded the artifact in `folder`.

        Raises:
            ArtifactError, TargetError, ConfigError, RequestError: the artifact or an option cannot be used.
            EngineDead: the process ended by itself.
            OSError: the system starts no process.
        """
        self = cls(on_step)
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = await asyncio.create_subprocess_exec(
                    *(*COMMAND, str(theirs.fileno())),
                    pass_fds=[theirs.fileno(), *mpi_descriptors()],
                    stdin=subprocess.DEVNULL,
                    stdout=_STDERR,
                    start_new_session=True,  # Ctrl-C is the front end's
                )
        except BaseException:
            ours.close()
            raise
        await asyncio.get_running_loop().create_connection(lambda: self, sock=ours)
        try:
            self.send(Start(os.fsencode(folder.resolve()), options, placement))
            answer = await self._answer
        except BaseException:
            self.kill()
            await self.wait()
            raise
        if isinstance(answer, Ready):
            return self
        code = await self.wait()
        if answer is None:
            words = self.last_words or f"The engine's process ended with exit code {code} before it was ready."
            raise EngineDead(words)
        raise ERRORS[answer.kind](answer.error)

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def send(self, message: msgspec.Struct) -> None:
        """Send a message in the background; one to a dead process is lost.

        Raises:
            TypeError, ValueError: it cannot be sent, as `frame` says.
        """
        self._transport.write(frame(message))

    def kill(self) -> None:
        """End it, whatever it is doing."""
        self._transport.abort()
        if self._process.returncode is None:
            self._process.kill()

    async def wait(self) -> int:
        """Wait for its end; the exit code, or below 0 the signal."""
        await self.ended.wait()
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(self._process.wait(), _LAST_WORDS)
        self._process.kill()
        return await self._process.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of `asyncio.Protocol`."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Part of `asyncio.Protocol`."""
        for message in self._frames.feed(data):
            if isinstance(message, Step):
                self.received += 1
                self._on_step(message)
            elif isinstance(message, Lost):
                self.last_words = message.error
            elif isinstance(message, Ready | Failed):
                self._answer.set_result(message)
                if isinstance(message, Ready):
                    self._on_step(Step([], message.stats))

    def connection_lost(self, _error: Exception | None) -> None:
        """Part of `asyncio.Protocol`."""
        if not self._answer.done():
            self._answer.set_result(None)
        self.ended.set()
