"""A load test from beginning to end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
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
from ilmari.report import Report

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
        ServerError: the server cannot be asked.
        OutputError, DataError: the folder is not one for these results.
        RequestError: the URL is none, or prompts are to be shorter than they can be.
    """
    async with Client(Target.of(settings.base_url), api_key) as client:
        name, max_model_len = await find_model(client, model)
        settings = replace(settings, model=name)
        results = Results(folder, _about(), settings.fields())
        points = settings.points()
        if len(results.points) == len(points):
            return results
        if results.points:
            note(f"Goes on after {len(results.points)} of {len(points)} points.")
        dialect = Dialect(settings.endpoint, name, settings.ignore_eos, extra=settings.extra_body)
        server = await get_to_know(client, dialect, max_model_len, note)
        for point in points[len(results.points) :]:
            results.add(await _measure(point, settings, server, client, own_prompts, report))
    return results


def _about() -> dict[str, Any]:
    """The machine of the client; kernels' threads have no part in this."""
    return {name: value for name, value in provenance().items() if name != "threads"}


async def _measure(
    point: Point,
    settings: Settings,
    server: Acquaintance,
    client: Client,
    own_prompts: PromptFile | None,
    report: Report,
) -> dict[str, Any]:
    """The figures of a point, or why it was skipped."""
    if server.max_model_len and (point.input_len or 0) + point.output_len > server.max_model_len:
        return asdict(point) | {"skipped": f"the server takes {server.max_model_len} tokens of prompt and reply"}
    rng = np.random.default_rng([settings.seed, point.input_len or 0, point.output_len, point.max_concurrency or 0])
    prompts = _prompts(settings.num_warmups + point.num_prompts, point, settings, server, own_prompts, rng)
    ask = Asker(client, server.dialect)
    warmups = await closed_loop(ask, prompts[: settings.num_warmups], point.max_concurrency or 1)
    refused = [reply.error for reply in warmups if reply.status == 400]
    if refused:
        return asdict(point) | {"skipped": refused[0]}
    asked = _Counted(ask, point, report)
    async with host_load() as load:
        began = time.perf_counter()
        replies = await _replies(asked, prompts[settings.num_warmups :], point, rng)
        seconds = time.perf_counter() - began
    result = asdict(point) | figures(replies, seconds, settings.percentiles, settings.goodput)
    return result | {"host": load if client.within_host else None}


def _prompts(
    count: int,
    point: Point,
    settings: Settings,
    server: Acquaintance,
    own_prompts: PromptFile | None,
    rng: np.random.Generator,
) -> list[Prompt]:
    if own_prompts:
        return own_prompts.prompts(count, point.output_len)
    assert point.input_len is not None
    same = settings.dataset_name is Dataset.FIXED
    return random_prompts(count, point.input_len, point.output_len, server.ruler, rng, same=same)


async def _replies(ask: _Counted, prompts: Sequence[Prompt], point: Point, rng: np.random.Generator) -> list[Reply]:
    if point.request_rate is None:
        assert point.max_concurrency is not None
        return await closed_loop(ask, prompts, point.max_concurrency)
    return await open_loop(ask, prompts, poisson_times(point.request_rate, len(prompts), rng).tolist())


class _Counted:
    """Asks, and reports how many have been answered."""

    def __init__(self, ask: Asker, point: Point, report: Report) -> None:
        self._ask, self._point, self._report = ask, point, report
        self._done = 0
        self._last = time.monotonic()
        report(point.label, 0, point.num_prompts)

    async def __call__(self, prompt: Prompt) -> Reply:
        reply = await self._ask(prompt)
        self._done += 1
        now = time.monotonic()
        if self._done == self._point.num_prompts or now - self._last > _REPORTED_S:
            self._last = now
            self._report(self._point.label, self._done, self._point.num_prompts)
        return reply
