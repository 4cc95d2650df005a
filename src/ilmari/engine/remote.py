"""An engine in other processes, as `Engine` for one caller: for models of several ranks."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import subprocess
import weakref
from collections.abc import Generator, Iterable
from collections.abc import Sequence as Many

import numpy as np
from numpy.typing import NDArray

from ilmari.artifact.artifact import Artifact
from ilmari.engine.engine_process import COMMAND, ERRORS
from ilmari.engine.frames import FrameReader, frame
from ilmari.engine.logits import in_one
from ilmari.engine.messages import (
    Delta,
    Failed,
    Finish,
    FromEngine,
    Logits,
    Lost,
    Ready,
    Score,
    Start,
    Stats,
    Step,
    Submit,
    ToEngine,
)
from ilmari.engine.options import EngineOptions, Placement
from ilmari.engine.prompt import check_prompt
from ilmari.engine.sampler import make_rng
from ilmari.engine.sampling_params import SamplingParams
from ilmari.engine.sequence import FinishReason, Sequence
from ilmari.errors import ArtifactError, GroupError, RequestError
from ilmari.model.rope import inv_freq

_CHUNK = 1 << 20
_STDERR = 2
_LAST_WORDS = 5.0  # seconds from the end of the connection to that of the process


class RemoteEngine:
    """As `Engine`, whose methods it has with the same meaning; its sequences are copies that `step` brings up to date.

    The engine goes on by itself: a step that is asked for may have been done long ago.
    """

    def __init__(self, artifact: Artifact, options: EngineOptions, placement: Placement) -> None:
        """Start the engine and wait until it has loaded the artifact.

        Raises:
            ArtifactError, ConfigError, GroupError, RequestError, TargetError: it cannot.
        """
        self.manifest = artifact.manifest
        self.config = artifact.manifest.model
        self._ids = itertools.count()
        self._sequences: dict[str, Sequence] = {}
        self._stats = Stats()
        self._frames: FrameReader[FromEngine] = FrameReader(FromEngine)
        self._received: list[FromEngine] = []
        self._asked = self._answered = 0  # requests for logits
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                (*COMMAND, str(theirs.fileno())),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=_STDERR,
                start_new_session=True,  # Ctrl-C is the caller's
            )
        self._connection = ours
        self.close = weakref.finalize(self, _end, ours, process)
        self._send(Start(os.fsencode(artifact.folder.resolve()), options, placement))
        match self._receive():
            case Ready(stats):
                self._stats = stats
            case Failed(kind, error):
                self.close()
                raise ERRORS[kind](error)

    def add(
        self, prompt: Many[int], params: SamplingParams, stop_ids: frozenset[int], *, cache_salt: str = ""
    ) -> Sequence:
        """Queue a prompt. What is wrong with it beyond its tokens is raised by `step`; `stop_ids` are the model's."""
        check_prompt(prompt, self.manifest.max_prompt_len, self.config.vocab_size)
        number = next(self._ids)
        sequence = Sequence(
            id=number,
            tokens=[int(token) for token in prompt],
            prompt_len=len(prompt),
            max_len=self.manifest.max_seq_len,
            params=params,
            stop_ids=frozenset(params.stop_token_ids or ()) | (frozenset() if params.ignore_eos else stop_ids),
            inv_freq=inv_freq(self.config, len(prompt)),
            rng=make_rng(params.seed),
            cache_salt=cache_salt,
        )
        try:
            self._send(Submit(str(number), sequence.tokens, params, cache_salt))
        except (TypeError, ValueError) as error:
            raise RequestError(f"The request cannot be passed to the engine: {error}.") from error
        self._sequences[str(number)] = sequence
        return sequence

    @property
    def has_work(self) -> bool:
        """Whether any sequence is unfinished."""
        return bool(self._sequences)

    def stats(self) -> Stats:
        """How the engine stood after the last step that was asked for."""
        return self._stats

    def step(self) -> list[Sequence]:
        """Wait for a step that adds to any sequence; returns those that gained tokens or ended.

        Raises:
            RequestError: a sequence was refused.
            ArtifactError: a sequence's logits cannot be sampled; it has ended, and the others can go on.
            GroupError: the engine has ended.
        """
        while self.has_work:
            message = self._receive()
            if isinstance(message, Step):
                self._stats = message.stats
                known = [delta for delta in message.deltas if delta.request_id in self._sequences]
                if known:
                    sequences = [self._take(delta) for delta in known]
                    for delta in known:
                        if delta.error:
                            raise (ArtifactError if delta.finish_reason else RequestError)(delta.error)
                    return sequences
        return []

    def finish(self, sequence: Sequence, reason: FinishReason) -> None:
        """End a sequence now, running or waiting."""
        if sequence.finish_reason is None:
            sequence.finish_reason = reason
            self._sequences.pop(str(sequence.id), None)
            with contextlib.suppress(GroupError):
                self._send(Finish(str(sequence.id)))

    def logits(self, token_ids: Many[int], last: int | None = None) -> NDArray[np.float32]:
        """As `Engine.logits`."""
        return in_one(self.stream_logits(token_ids, last), len(token_ids) if last is None else last)

    def stream_logits(self, token_ids: Many[int], last: int | None = None) -> Generator[NDArray[np.float32]]:
        """As `Engine.stream_logits`; while sequences run it waits for them."""
        check_prompt(token_ids, self.manifest.max_seq_len, self.config.vocab_size)
        self._send(Score([int(token) for token in token_ids], last))
        self._asked += 1
        with contextlib.closing(self._answers(self._asked)) as answers:
            yield from self._steps(answers)

    def _answers(self, number: int) -> Generator[Logits]:
        """The answers to the request for logits of a number; steps that come before them are kept."""
        steps = []
        try:
            while self._answered < number:
                mine = self._answered == number - 1  # else it is left of a request that was closed, or interrupted
                message = self._receive()
                if not isinstance(message, Logits):
                    steps.append(message)
                elif mine and message.error:
                    raise RequestError(message.error)
                elif mine and message.rows is not None:
                    yield message
        finally:
            self._received = [*steps, *self._received]

    def _steps(self, answers: Iterable[Logits]) -> Generator[NDArray[np.float32]]:
        pieces: list[NDArray[np.float32]] = []
        for answer in answers:
            assert answer.rows is not None
            pieces.append(np.frombuffer(answer.rows, np.float32).reshape(-1, self.config.vocab_size))
            if answer.step:
                yield np.concatenate(pieces)
                pieces.clear()

    def _take(self, delta: Delta) -> Sequence:
        sequence = self._sequences[delta.request_id]
        sequence.tokens += delta.token_ids
        sequence.logprobs += delta.logprobs or []
        sequence.prompt_logprobs += delta.prompt_logprobs or []
        sequence.cached_tokens += delta.cached_tokens
        if delta.last:
            del self._sequences[delta.request_id]
            sequence.finish_reason = delta.finish_reason or "abort"
        return sequence

    def _send(self, message: ToEngine) -> None:
        try:
            self._connection.sendall(frame(message))
        except OSError:
            self._receive_last_words()

    def _receive(self) -> FromEngine:
        while not self._received:
            try:
                data = self._connection.recv(_CHUNK)
            except OSError:
                data = b""
            if not data:
                self._sequences.clear()
                raise GroupError("The engine's ranks have ended.")
            self._received = self._frames.feed(data)
            for message in self._received:
                if isinstance(message, Lost):
                    self._sequences.clear()
                    raise GroupError(message.error)
        message = self._received.pop(0)
        self._answered += isinstance(message, Logits) and message.rows is None
        return message

    def _receive_last_words(self) -> None:
        while True:
            self._receive()


def _end(connection: socket.socket, process: subprocess.Popen[bytes]) -> None:
    connection.close()
    with process:
        try:
            process.wait(_LAST_WORDS)
        except subprocess.TimeoutExpired:
            process.kill()
