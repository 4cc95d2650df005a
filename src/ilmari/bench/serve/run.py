"""A load test from beginning to end."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ilmari.bench.machine import provenance
from ilmari.bench.serve.acquaintance import Acquaintance, Note, find_model, get_to_know
from ilmari.bench.serve.asker import Asker
from ilmari.bench.serve.client import Client
from ilmari.bench.serve.dialect import Dialect
from ilmari.bench.serve.figures import figures
from ilmari.bench.serve.host import host_load
from ilmari.bench.serve.load import closed_loop, open_loop, poisson_times
from ilmari.bench.serve.plan import Dataset, Point, Settings
from ilmari.bench.serve.prompts import Prompt, PromptFile, random_prompts
from ilmari.bench.serve.reply import Reply
from ilmari.bench.serve.results import Results
from ilmari.bench.serve.target import Target
from ilmari.errors import ServerError
from ilmari.report import Report

_STEP = "ask"
_REPORTED_S = 1.0
"""Drawing a bar takes milliseconds, in which nobody notes what arrives: once in a second is enough."""


async def load_test(
    settings: Settings,
    model: str | None,
    api_key: str | None,
    own_prompts: PromptFile | None,
    folder: Path | None,
    report: Report,
    note: Note,
) -> Results:
    """Measure every point of the grid that is not in the folder yet.

    model: the one to ask, or None for the only one; `settings` gets its name.

    Raises:
        ServerError: the server cannot be asked, or answers nothing of a point.
        OutputError, DataError: the folder is not one for these results.
        RequestError: the URL is none, or prompts are to be shorter than they can be.
    """
    async with Client(Target.of(settings.base_url), api_key) as client:
        name, max_model_len = await find_model(client, model)
        settings = replace(settings, model=name)
        results = Results(folder, _about(), settings.fields())
        points, done = settings.points(), len(results.points)
        if done == len(points):
            return results
        if done:
            note(f"Goes on after {done} of {len(points)} points.")
        dialect = Dialect(settings.endpoint, name, settings.ignore_eos, extra=settings.extra_body)
        server = await get_to_know(client, dialect, max_model_len, note)
        tally = _Tally(report, sum(point.num_prompts for point in points[done:]))
        measurement = _Measurement(settings, server, client, own_prompts, tally)
        for point in points[done:]:
            # An earlier run may have begun this point: its prompts are in the server's prefix cache.
            rng = np.random.default_rng([settings.seed, done, *point.numbers])
            result = await measurement.of(point, rng)
            if "skipped" not in result and not result["completed"]:
                raise ServerError(
                    f"{point.label}: no reply came ({next(iter(result['errors']))}); mend the server, and give the "
                    "command again: it goes on with this point."
                )
            results.add(result)
            tally.end_of_point(point.num_prompts)
            note(f"{point.label}: {_in_short(result)}")
    return results


def _about() -> dict[str, Any]:
    """The machine of the client; kernels' threads have no part in this."""
    return {name: value for name, value in provenance().items() if name != "threads"}


@dataclass(frozen=True)
class _Measurement:
    """Measures points of one load test."""

    settings: Settings
    server: Acquaintance
    client: Client
    own_prompts: PromptFile | None
    tally: _Tally

    async def of(self, point: Point, rng: np.random.Generator) -> dict[str, Any]:
        """The figures of a point, or why it was skipped."""
        longest, warmups = self.server.max_model_len, self.settings.num_warmups
        if longest and (point.input_len or 0) + point.output_len > longest:
            return asdict(point) | {"skipped": f"the server takes {longest} tokens of prompt and reply"}
        prompts = self._prompts(warmups + point.num_prompts, point, rng)
        ask = Asker(self.client, self.server.dialect)
        first = await closed_loop(ask, prompts[:warmups], point.max_concurrency or 1)
        refused = [reply.error for reply in first if reply.status == 400]
        if refused:
            return asdict(point) | {"skipped": refused[0]}

        async def ask_and_count(prompt: Prompt) -> Reply:
            reply = await ask(prompt)
            self.tally.add()
            return reply

        async with host_load() as load:
            began = time.perf_counter()
            replies = await _replies(ask_and_count, prompts[warmups:], point, rng)
            seconds = time.perf_counter() - began
        result = asdict(point) | figures(replies, seconds, self.settings.percentiles, self.settings.goodput)
        return result | {"host": load if self.client.within_host else None}

    def _prompts(self, count: int, point: Point, rng: np.random.Generator) -> list[Prompt]:
        if self.own_prompts:
            return self.own_prompts.prompts(count, point.output_len)
        assert point.input_len is not None
        same = self.settings.dataset_name is Dataset.FIXED
        return random_prompts(count, point.input_len, point.output_len, self.server.ruler, rng, same=same)


async def _replies(
    ask: Callable[[Prompt], Awaitable[Reply]], prompts: Sequence[Prompt], point: Point, rng: np.random.Generator
) -> list[Reply]:
    if point.request_rate is None:
        assert point.max_concurrency is not None
        return await closed_loop(ask, prompts, point.max_concurrency)
    return await open_loop(ask, prompts, poisson_times(point.request_rate, len(prompts), rng).tolist())


def _in_short(result: Mapping[str, Any]) -> str:
    if "skipped" in result:
        return f"skipped, {result['skipped']}"
    failed = f", {result['failed']} failed" if result["failed"] else ""
    if not result["completed"]:
        return f"{result['completed']} completed{failed}"
    return f"{result['output_throughput']:.1f} tokens/s, TTFT {result['median_ttft_ms']:.0f} ms{failed}"


class _Tally:
    """Reports how many requests of all points have been answered."""

    def __init__(self, report: Report, total: int) -> None:
        self._report, self._total = report, total
        self._done, self._reported_at = 0, time.monotonic()
        self._ends = 0
        report(_STEP, 0, total)

    def add(self) -> None:
        """One more."""
        self._done += 1
        if self._done < self._total and time.monotonic() - self._reported_at > _REPORTED_S:
            self._show()

    def end_of_point(self, prompts: int) -> None:
        """All of a point's, also of one that was skipped."""
        self._ends += prompts
        self._done = self._ends
        self._show()

    def _show(self) -> None:
        self._reported_at = time.monotonic()
        self._report(_STEP, self._done, self._total)
