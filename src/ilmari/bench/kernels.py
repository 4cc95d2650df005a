"""Every kernel of an artifact at the model's shapes, on random tokens and a cache of random keys and values.

Kernels are timed inside whole steps, so that what they read is where it is in use: weights in memory, because each
layer has its own, and activations in the caches where the kernel before left them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence as Many
from dataclasses import dataclass
from statistics import mean, median
from typing import Any

import numpy as np

from ilmari.artifact.artifact import KERNELS, Artifact
from ilmari.bench.ceilings import Ceilings, Rates
from ilmari.bench.cost import Load, Span
from ilmari.bench.kernel_cost import kernel_cost
from ilmari.bench.recorder import Call, RecordingLibrary
from ilmari.engine.batch import Batch, Part, make_batch
from ilmari.engine.engine import MOST_BATCHED_TOKENS
from ilmari.engine.kv_cache import KvCache, blocks_for
from ilmari.engine.memory import available_bytes
from ilmari.engine.options import MAX_NUM_SEQS
from ilmari.engine.runner import Runner
from ilmari.errors import RequestError
from ilmari.kernels.attention_tiles import tile_tokens
from ilmari.kernels.kv_layout import BLOCK_SIZE
from ilmari.kernels.plan import Plan
from ilmari.model.rope import inv_freq
from ilmari.report import Report


@dataclass(frozen=True)
class Shape:
    """A step: `sequences` with `tokens` new ones each, after `context` cached ones."""

    sequences: int
    tokens: int
    context: int

    @property
    def rows(self) -> int:
        """New tokens in all."""
        return self.sequences * self.tokens

    @property
    def blocks(self) -> int:
        """Blocks of the KV cache that one sequence needs."""
        return blocks_for(self.context + self.tokens)

    @property
    def load(self) -> Load:
        """What it computes; each sequence's last token gets logits."""
        return Load((Span(self.tokens, self.context + self.tokens, 1),) * self.sequences)


def shapes(rows: Many[int], context: int) -> list[Shape]:
    """Steps of so many rows: as replies of one token each, up to the engine's usual most, and as part of a prompt."""
    replies = [Shape(count, 1, context) for count in rows if count <= MAX_NUM_SEQS]
    pieces = [Shape(1, count, context) for count in rows if count > 1]
    return sorted(replies + pieces, key=lambda shape: shape.rows)


@dataclass(frozen=True)
class KernelTimes:
    """One kernel in steps of one shape: seconds of a call, on average over a step's calls, for each round."""

    name: str
    load: Load
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class Measured:
    """Every kernel, and the machine's rates around the rounds."""

    artifact: Artifact
    kernels: tuple[KernelTimes, ...]
    rates: tuple[Rates, ...]

    def rows(self) -> list[dict[str, Any]]:
        """For each kernel and number of rows the best time of a call, the median, and what the best one reached."""
        best = Rates.of(self.rates, max)
        result = []
        for each in self.kernels:
            seconds = min(each.seconds)
            row = {
                "kernel": each.name,
                "rows": each.load.rows,
                "ms": 1e3 * seconds,
                "median_ms": 1e3 * median(each.seconds),
            }
            cost = kernel_cost(self.artifact.manifest.plan, each.name, each.load)
            result.append(row | (cost.reached(seconds, best) if cost else {}))
        return result


def measure(artifact: Artifact, rows: Many[int], context: int, rounds: int, report: Report) -> Measured:
    """Time steps of each of `rows` rows after `context` cached tokens, in rounds between measurements of the machine.

    A kernel counts where it works on all rows of a step. One that both kinds of steps call counts once, with replies.

    Raises:
        RequestError: an artifact of several ranks, or more rows or a longer context than it takes or memory holds.
    """
    _check(artifact, rows, context)
    shapes_ = shapes(sorted(set(rows)), context)
    report("compile the ceilings' kernels", 0, 1)
    ceilings = Ceilings()
    report("compile the ceilings' kernels", 1, 1)
    library = RecordingLibrary(artifact.folder / KERNELS)
    runner = Runner(artifact, max(rows), library)
    cache = KvCache(artifact.manifest.plan, max(shape.sequences * shape.blocks for shape in shapes_))
    _fill(cache)
    steps = [(shape, _batch(artifact.manifest.plan, shape)) for shape in shapes_]
    for done, (_, batch) in enumerate(steps):
        report("warm up", done, len(steps))
        runner.forward(batch, cache)
    report("warm up", len(steps), len(steps))
    library.take_calls()
    seconds: dict[tuple[str, Shape], list[float]] = defaultdict(list)
    rates = [ceilings.sample()]
    for done in range(rounds):
        report("rounds of ceilings and kernels", done, rounds)
        for shape, batch in steps:
            runner.forward(batch, cache)
            for name, took in _calls_of(library.take_calls(), shape.rows).items():
                seconds[name, shape].append(mean(took))
        rates.append(ceilings.sample())
    report("rounds of ceilings and kernels", rounds, rounds)
    kernels: dict[tuple[str, int], KernelTimes] = {}
    for (name, shape), samples in seconds.items():
        kernels.setdefault((name, shape.rows), KernelTimes(name, shape.load, tuple(samples)))
    return Measured(artifact, tuple(kernels[key] for key in sorted(kernels)), tuple(rates))


def _calls_of(calls: tuple[Call, ...], rows: int) -> dict[str, list[float]]:
    """Seconds of the calls that work on `rows` rows, by kernel."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for call in calls:
        if call.rows == rows:
            seconds[call.name].append(call.seconds)
    return seconds


def _check(artifact: Artifact, rows: Many[int], context: int) -> None:
    manifest = artifact.manifest
    if manifest.tp > 1:
        raise RequestError(
            f"This artifact runs on {manifest.tp} ranks and bench kernels on one; use bench latency --profile."
        )
    for count in rows:
        if not 1 <= count <= MOST_BATCHED_TOKENS:
            raise RequestError(f"--rows has {count}; a step has 1 to {MOST_BATCHED_TOKENS} rows.")
    longest = context + max(rows)
    if longest > manifest.max_seq_len:
        raise RequestError(
            f"{max(rows)} rows after a context of {context} make a sequence of {longest} tokens and this artifact "
            f"takes {manifest.max_seq_len}; lower --rows or --context."
        )
    needed = max(shape.sequences * shape.blocks for shape in shapes(rows, context))
    needed *= BLOCK_SIZE * manifest.plan.kv_bytes_per_token
    available = available_bytes()
    if available is not None and needed > available:
        raise RequestError(
            f"The KV cache of these steps takes {needed:,} bytes and {available:,} are available; "
            "lower --rows or --context."
        )


def _batch(plan: Plan, shape: Shape) -> Batch:
    """The step's arrays: random tokens, and blocks of the cache in order."""
    config = plan.config
    rng = np.random.default_rng(0)
    length = shape.context + shape.tokens
    parts = [
        Part(
            rng.integers(config.vocab_size, size=shape.tokens).tolist(),
            computed=shape.context,
            prompt_len=length if shape.tokens > 1 else shape.context,
            blocks=list(range(index * shape.blocks, (index + 1) * shape.blocks)),
            inv_freq=inv_freq(config, length).tobytes(),
            outputs=1,
        )
        for index in range(shape.sequences)
    ]
    return make_batch(parts, tile_tokens(plan.local.q_per_kv))


def _fill(cache: KvCache) -> None:
    """Random keys and values: memory that was never written is not there, and would be read from a cache."""
    rng = np.random.default_rng(0)
    # Bytes of which any four are a small float32, as they may be a scale.
    small = rng.integers(0x30, 0x40, 1 << 16, np.int8)
    normal = rng.standard_normal(1 << 16, np.float32).astype(np.float16)
    for tensor in (*cache.keys, *cache.values):
        flat = np.from_dlpack(tensor).reshape(-1)
        flat[:] = np.resize(small if flat.dtype == np.int8 else normal, flat.size)
