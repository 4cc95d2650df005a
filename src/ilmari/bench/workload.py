"""A batch of prompts that arrive together, run through the engine step by step."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ilmari.bench.cost import Load, Span
from ilmari.bench.recorder import Call
from ilmari.engine.engine import Engine
from ilmari.engine.kv_cache import blocks_for
from ilmari.engine.options import MAX_NUM_BATCHED_TOKENS
from ilmari.engine.sampling_params import SamplingParams
from ilmari.errors import RequestError


@dataclass(frozen=True)
class Workload:
    """`batch` prompts of `input_len` random tokens that arrive together, each answered with `output_len` tokens."""

    batch: int
    input_len: int
    output_len: int

    @property
    def lead(self) -> int:
        """The most tokens that the first sequence can have before the last has one.

        The others' prompts have at most (batch - 1) * input_len tokens left by then, and each step takes as many as
        the replies leave room for.
        """
        room = max(MAX_NUM_BATCHED_TOKENS, self.batch) - self.batch + 1
        return -(-(self.batch - 1) * self.input_len // room)

    @property
    def longest(self) -> int:
        """Tokens of a sequence at its end: as long as all of them decode together, the first ones go on."""
        return self.input_len + self.lead + self.output_len


@dataclass(frozen=True)
class Step:
    """One step of the engine: seconds, what it computed, and the calls of kernels if they were recorded."""

    seconds: float
    load: Load
    calls: tuple[Call, ...]


Phase = tuple[Step, ...]


def seconds(phase: Phase) -> float:
    """How long the steps took together."""
    return sum(step.seconds for step in phase)


@dataclass(frozen=True)
class Run:
    """One workload from start to end.

    prefill: the steps from the arrival of the prompts until each sequence has a token; with several prompts the first
    replies go on meanwhile. decode: the output_len - 1 steps after it, of one token for each sequence. ttft_s: seconds
    from arrival to a sequence's first token, on average over the batch.
    """

    prefill: Phase
    decode: Phase
    ttft_s: float


def check(engine: Engine, workload: Workload) -> None:
    """Raise unless the artifact takes such prompts and the KV cache holds all sequences at a time.

    Raises:
        RequestError: which of them it is, and what would fit.
    """
    manifest = engine.manifest
    if workload.input_len > manifest.max_prompt_len:
        raise RequestError(
            f"--input-len is {workload.input_len} and this artifact takes prompts of up to {manifest.max_prompt_len} "
            "tokens; lower it, or compile the model with a longer frontend.shape.input_ids."
        )
    if workload.longest > manifest.max_seq_len:
        raise RequestError(
            f"These sequences grow to {workload.longest} tokens ({workload.input_len} of input, {workload.output_len} "
            f"of output, {workload.lead} while other prompts are read) and this artifact takes {manifest.max_seq_len}; "
            "lower --input-len, --output-len or --batch."
        )
    needed = workload.batch * blocks_for(workload.longest)
    if needed > engine.cache.blocks:
        raise RequestError(
            f"A batch of {workload.batch} sequences of {workload.longest} tokens needs {needed} KV blocks and the "
            f"cache has {engine.cache.blocks}; lower --batch, --input-len or --output-len."
        )


def run(engine: Engine, workload: Workload, take_calls: Callable[[], tuple[Call, ...]] = tuple) -> Run:
    """Run the workload once on an idle engine that `check` approved; `take_calls` gives the calls since it was last
    called, if they are recorded."""
    rng = np.random.default_rng(0)
    prompts = rng.integers(engine.config.vocab_size, size=(workload.batch, workload.input_len)).tolist()
    params = SamplingParams(temperature=0, max_tokens=workload.longest - workload.input_len, ignore_eos=True)
    take_calls()
    start = time.perf_counter()
    sequences = [engine.add(prompt, params, frozenset()) for prompt in prompts]

    def step() -> Step:
        before = [sequence.computed for sequence in sequences]
        began = time.perf_counter()
        sampled = engine.step()
        took = time.perf_counter() - began
        spans = tuple(
            Span(sequence.computed - computed, sequence.computed, int(sequence in sampled))
            for sequence, computed in zip(sequences, before, strict=True)
            if sequence.computed > computed
        )
        return Step(took, Load(spans), take_calls())

    prefill: list[Step] = []
    first_after: list[float] = []
    while len(first_after) < workload.batch:
        prefill.append(step())
        new = sum(1 for sequence in sequences if sequence.output) - len(first_after)
        first_after += [time.perf_counter() - start] * new
    decode = tuple(step() for _ in range(workload.output_len - 1))
    for sequence in sequences:
        engine.finish(sequence, "abort")
    return Run(tuple(prefill), decode, sum(first_after) / workload.batch)
