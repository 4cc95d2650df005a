"""The same closed loop around an engine that works in steps, in this process: no HTTP, no front end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

from benchmarks.serving.reply import Reply
from benchmarks.serving.traffic import Traffic


def closed_loop(
    traffic: Traffic,
    vocab_size: int,
    add: Callable[[list[int]], int],
    step: Callable[[], Iterable[tuple[int, int]]],
) -> list[Reply]:
    """`add` queues a prompt and says its number; `step` runs one and says how many tokens which number gained."""
    prompts = iter(traffic.prompts(vocab_size))
    running: dict[int, Reply] = {}
    replies = []

    def ask_next() -> None:
        for prompt in prompts:
            asked = time.perf_counter()
            running[add(prompt)] = Reply(asked, [])
            return

    for _ in range(traffic.concurrency):
        ask_next()
    while running:
        gained = list(step())
        now = time.perf_counter()
        for number, count in gained:
            running[number].arrivals.append((now, count))
            if running[number].tokens == traffic.new_tokens:
                replies.append(running.pop(number))
                ask_next()
    return replies


def answer(loop: Callable[[Traffic], list[Reply]]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """`loop` for `worker.serve`."""
    return lambda request: {"replies": [asdict(reply) for reply in loop(Traffic(**request))]}
