"""The engine in a process of its own, for a front end on asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Literal

import msgspec

from ilmari.artifact.artifact import TOKENIZER, Artifact
from ilmari.engine.engine_process import EngineDead, EngineProcess
from ilmari.engine.mailbox import Mailbox
from ilmari.engine.messages import Delta, Finish, Stats, Step, Submit
from ilmari.engine.options import EngineOptions, Placement
from ilmari.engine.sampling_params import SamplingParams
from ilmari.errors import IlmariError
from ilmari.model.chat import ChatTemplate
from ilmari.model.tokenizer import Tokenizer
from ilmari.settings import mpi_world

__all__ = ["EngineClient", "EngineDead"]

STEP_TIMEOUT = 300.0
FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0
DEFAULT_PLACEMENT = Placement()
_TICKS = 10

_log = logging.getLogger(__name__)


class EngineClient:
    """Starts the engine's process, talks to it, and starts it again when it has died.

    It belongs to the event loop that runs `start`. What else a front end needs is loaded here: `manifest`, `tokenizer`
    and `chat_template`. Weights and kernels are not. `failure`: why the engine ended for good, empty if it did not.
    """

    def __init__(
        self,
        model: Path,
        options: EngineOptions,
        placement: Placement = DEFAULT_PLACEMENT,
        *,
        step_timeout: float = STEP_TIMEOUT,
    ) -> None:
        """`step_timeout`: seconds after which an engine that has work and sends nothing is killed and started again.

        Raises:
            ArtifactError: the folder is no artifact, or has no tokenizer that can be used.
        """
        self.manifest = Artifact.open(model).manifest
        self.tokenizer = Tokenizer.load(model / TOKENIZER)
        self.chat_template = ChatTemplate.load(model / TOKENIZER, self.tokenizer.bos_token, self.tokenizer.eos_token)
        self._folder = model
        self._options = options
        self._placement = placement
        self._tick = step_timeout / _TICKS
        self._process: EngineProcess | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._mailboxes: dict[str, Mailbox] = {}
        self._state: Literal["starting", "ready", "dead"] = "dead"
        self._stats = Stats()
        self._restarts = 0
        self.failure = ""

    @property
    def state(self) -> Literal["starting", "ready", "dead"]:
        """ "ready" takes requests; "dead" will be "starting" soon, unless the client was closed or never started."""
        return self._state

    @property
    def stats(self) -> Stats:
        """The engine after its last step."""
        return self._stats

    @property
    def restarts(self) -> int:
        """How many times the engine was started again, attempts that failed included."""
        return self._restarts

    @property
    def pid(self) -> int | None:
        """The number of the engine's process, None while there is none."""
        return self._process.pid if self._process else None

    async def start(self, given_up: Callable[[], None] = lambda: None) -> None:
        """Start the engine and wait until it takes requests; from then on it is kept alive.

        Where it is a rank of an MPI world it cannot be started again when it ends: then `failure` is set and `given_up`
        is called.

        Raises:
            ArtifactError, TargetError, ConfigError, RequestError: the artifact or an option cannot be used.
            EngineDead: the process ended by itself.
            OSError: the system starts no process.
        """
        self._supervisor = asyncio.create_task(self._supervise(await self._launch(), given_up))

    async def close(self) -> None:
        """End the engine; requests that run get `EngineDead`."""
        if self._supervisor:
            self._supervisor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._supervisor
        if self._process:
            self._process.kill()
            await self._process.wait()
        self._lose()

    async def generate(
        self, request_id: str, prompt: list[int], params: SamplingParams, cache_salt: str = ""
    ) -> AsyncGenerator[Delta]:
        """Continue a prompt: what each step adds to it, of several steps together if nobody waited meanwhile.

        The last delta has a `finish_reason` or an `error`. Closing the generator early, or cancelling who waits for it,
        ends the request. `request_id` has never been used before.

        Raises:
            EngineDead: the engine is not ready, or dies meanwhile.
        """
        if self._process is None:
            raise EngineDead("The engine is not running; it may be started again in a moment.")
        assert request_id not in self._mailboxes
        try:
            self._process.send(Submit(request_id, msgspec.convert(prompt, list[int]), params, cache_salt))
        except (TypeError, ValueError) as error:
            yield Delta(request_id, error=f"The request cannot be passed to the engine: {error}.")
            return
        mailbox = self._mailboxes[request_id] = Mailbox()
        try:
            while delta := await mailbox.get():
                yield delta
                if delta.last:
                    return
        finally:
            self.finish(request_id)

    def finish(self, request_id: str) -> None:
        """End a request if it runs; its generator ends too and gives nothing more."""
        if mailbox := self._mailboxes.pop(request_id, None):
            mailbox.discard()
            if self._process:
                self._process.send(Finish(request_id))

    def _take(self, step: Step) -> None:
        self._stats = step.stats
        for delta in step.deltas:
            if mailbox := self._mailboxes.get(delta.request_id):  # else it was finished while the step ran
                mailbox.put(delta)
                if delta.last:
                    del self._mailboxes[delta.request_id]

    def _lose(self) -> None:
        self._process = None
        self._state = "dead"
        self._stats = Stats()
        while self._mailboxes:
            _, mailbox = self._mailboxes.popitem()
            mailbox.fail(EngineDead("The engine died before the answer was complete."))

    async def _launch(self) -> EngineProcess:
        self._state = "starting"
        try:
            self._process = await EngineProcess.start(self._folder, self._options, self._placement, self._take)
        except BaseException:
            self._state = "dead"
            raise
        self._state = "ready"
        return self._process

    async def _supervise(self, process: EngineProcess, given_up: Callable[[], None]) -> None:
        """Start the engine again whenever it ends."""
        while True:
            watchdog = asyncio.create_task(self._watch(process))
            try:
                await process.ended.wait()
            finally:
                watchdog.cancel()
            self._lose()
            code = await process.wait()
            reason = process.last_words or f"The engine's process ended with exit code {code}."
            if mpi_world():  # which has lost a rank, and takes in no other
                self.failure = reason
                return given_up()
            _log.error("%s It is being started again.", reason)
            process = await self._relaunch()

    async def _relaunch(self) -> EngineProcess:
        delay = FIRST_DELAY
        while True:
            await asyncio.sleep(delay)
            self._restarts += 1
            try:
                return await self._launch()
            except (EngineDead, IlmariError, OSError) as error:
                delay = min(2 * delay, LONGEST_DELAY)
                _log.error("The engine does not start, next attempt in %g s: %s", delay, error)

    async def _watch(self, process: EngineProcess) -> None:
        """Kill an engine that hangs.

        Silence is counted in ticks of our own clock: after a time in which the whole machine slept, or this process was
        stopped, nobody is to blame.
        """
        silent, seen = 0, process.received
        while silent < _TICKS:
            await asyncio.sleep(self._tick)
            silent = silent + 1 if self._mailboxes and process.received == seen else 0
            seen = process.received
        _log.error("The engine has work and is silent for %g s; its process is killed.", self._tick * _TICKS)
        process.kill()
