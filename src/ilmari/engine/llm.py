"""The Python interface: text in, text out."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from collections.abc import Sequence as Many
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ilmari.artifact.artifact import TOKENIZER, Artifact
from ilmari.engine.opening import open_engine
from ilmari.engine.options import MAX_NUM_BATCHED_TOKENS, MAX_NUM_SEQS, EngineOptions, Placement
from ilmari.engine.output import RequestOutput
from ilmari.engine.request import Request
from ilmari.engine.sampling_params import SamplingParams
from ilmari.errors import RequestError
from ilmari.model.chat import ChatTemplate
from ilmari.model.tokenizer import Tokenizer

Prompt = str | Many[int]
Message = Mapping[str, Any]


class LLM:
    """A compiled model.

    >>> llm = LLM("artifacts/internlm2-chat-1_8b")
    >>> llm.generate("Once upon a time", SamplingParams(temperature=0, max_tokens=16))[0].outputs[0].text
    """

    def __init__(
        self,
        model: str | Path,
        *,
        max_num_seqs: int = MAX_NUM_SEQS,
        max_num_batched_tokens: int = MAX_NUM_BATCHED_TOKENS,
        kv_cache_memory_bytes: int | None = None,
        devices: str | None = None,
        hosts: str | None = None,
    ) -> None:
        """Load the artifact in folder `model`; the limits are those of `Engine`, the others those of `Placement`.

        An artifact of several ranks (`tp`) gets a process for each. Where MPI has started this process as one of them
        already, rank 0 goes on with the model, and in the others this call ends the process when rank 0 is done.

        Raises:
            ArtifactError: the folder is no artifact, or not as it was written.
            TargetError: it was compiled for another CPU.
            GroupError: its ranks cannot be started.
        """
        artifact = Artifact.open(Path(model))
        self.engine = open_engine(
            artifact,
            EngineOptions(
                max_num_seqs=max_num_seqs,
                max_num_batched_tokens=max_num_batched_tokens,
                kv_cache_memory_bytes=kv_cache_memory_bytes,
            ),
            Placement(devices=devices, hosts=hosts),
        )
        self.manifest = artifact.manifest
        self.tokenizer = Tokenizer.load(artifact.folder / TOKENIZER)
        self.chat_template = ChatTemplate.load(
            artifact.folder / TOKENIZER, self.tokenizer.bos_token, self.tokenizer.eos_token
        )
        self._requests: dict[int, Request] = {}

    def generate(
        self, prompts: Prompt | Many[Prompt], sampling_params: SamplingParams | Many[SamplingParams] | None = None
    ) -> list[RequestOutput]:
        """Continue one prompt or several, each text or token ids; outputs in the prompts' order.

        `sampling_params` are for all prompts, or one for each.

        Raises:
            RequestError: a prompt or a parameter that cannot be served; then none is.
        """
        several = _as_list(prompts)
        requests = self._start(several, _for_each(several, sampling_params))
        try:
            while not all(request.finished for request in requests):
                self._step()
        finally:
            self._end(requests)
        return [request.output() for request in requests]

    def chat(
        self,
        messages: Many[Message] | Many[Many[Message]],
        sampling_params: SamplingParams | Many[SamplingParams] | None = None,
    ) -> list[RequestOutput]:
        """Answer one conversation or several, each a list of {"role": ..., "content": ...}.

        Raises:
            RequestError: as `generate`, and where the model has no chat template.
        """
        if not isinstance(messages, Many) or isinstance(messages, str | bytes):
            raise RequestError(
                f"messages are of type {type(messages).__name__}; give a list of {{'role': ..., 'content': ...}}."
            )
        several = messages and not isinstance(messages[0], Mapping)
        conversations = messages if several else [messages]
        return self.generate([self.render(conversation) for conversation in conversations], sampling_params)  # type: ignore[arg-type]

    def stream(self, prompt: Prompt, sampling_params: SamplingParams | None = None) -> Generator[RequestOutput]:
        """Continue one prompt and give the request after every step, its text growing; closing it stops the reply.

        A step of a long prompt's beginning brings no token yet. Several streams may be open at a time; all of them go
        on whenever one is asked for more, so another may then give several tokens at once.

        Raises:
            RequestError: as `generate`.
        """
        requests = self._start([prompt], _for_each([prompt], sampling_params))
        (request,) = requests
        given = 0
        try:
            while True:
                if request.seen == given and not request.finished:
                    self._step()
                given, output = request.seen, request.output()
                yield output
                if output.finished:
                    return
        finally:
            self._end(requests)

    def render(self, messages: Many[Message]) -> list[int]:
        """Token ids of a conversation, up to where the assistant's reply begins.

        Contents are ordinary text: what reads like a special token there does not become one.

        Raises:
            RequestError: messages that the template does not take, or no template.
        """
        text = self.chat_template.render(messages, escape=self.tokenizer.escape_special)
        return self.tokenizer.encode(text, add_bos=False, parse_special=True)

    def logits(self, token_ids: Many[int]) -> NDArray[np.float32]:
        """Logits float32 [len, vocab]: row i scores the token after token_ids[i].

        Raises:
            RequestError: no tokens, too many, or one outside the vocabulary.
        """
        return self.engine.logits(token_ids)

    def _start(self, prompts: list[Prompt], params: list[SamplingParams]) -> list[Request]:
        requests: list[Request] = []
        try:
            for prompt, its_params in zip(prompts, params, strict=True):
                text = prompt if isinstance(prompt, str) else None
                tokens = self.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
                sequence = self.engine.add(tokens, its_params, self.tokenizer.stop_token_ids)
                requests.append(Request.start(text, sequence, self.tokenizer))
                self._requests[sequence.id] = requests[-1]
        except BaseException:
            self._end(requests)
            raise
        return requests

    def _step(self) -> None:
        """Run one batch: every request goes on, whoever made it."""
        for sequence in self.engine.step():
            if self._requests[sequence.id].advance():
                self.engine.finish(sequence, "stop")

    def _end(self, requests: list[Request]) -> None:
        """Forget requests, and stop those that are unfinished."""
        for request in requests:
            self.engine.finish(request.sequence, "abort")
            del self._requests[request.sequence.id]


def _as_list(prompts: Prompt | Many[Prompt]) -> list[Prompt]:
    """Several prompts as they are; whatever does not begin with a prompt is one."""
    if isinstance(prompts, str | bytes) or not isinstance(prompts, Many):
        return [prompts]
    one = prompts and not isinstance(prompts[0], str | Many)
    return [prompts] if one else list(prompts)  # type: ignore[list-item, arg-type]


def _for_each(
    prompts: list[Prompt], sampling_params: SamplingParams | Many[SamplingParams] | None
) -> list[SamplingParams]:
    if sampling_params is None or isinstance(sampling_params, SamplingParams):
        return [sampling_params or SamplingParams()] * len(prompts)
    if not isinstance(sampling_params, Many) or not all(isinstance(one, SamplingParams) for one in sampling_params):
        raise RequestError(
            f"sampling_params are of type {type(sampling_params).__name__}; give SamplingParams, or a list of them."
        )
    if len(sampling_params) != len(prompts):
        raise RequestError(
            f"There are {len(prompts)} prompts and {len(sampling_params)} sampling_params; give as many."
        )
    return list(sampling_params)
