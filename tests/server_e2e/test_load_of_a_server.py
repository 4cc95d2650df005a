"""`ilmari bench serve` against a real server: exact counts, and times that agree with the server's own histograms."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
from live_server import ILMARI, LiveServer, StartServer

HISTOGRAMS = {
    "ttft": "ilmari:time_to_first_token_seconds",
    "e2el": "ilmari:e2e_request_latency_seconds",
}


def bench(server: LiveServer, *flags: str) -> list[dict[str, Any]]:
    command = [*ILMARI, "bench", "serve", "--base-url", server.url, "--json", *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return list(json.loads(done.stdout)["points"])


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_every_token_is_counted(server: LiveServer, endpoint: str) -> None:
    grid = ("--input-len", "300,600", "--output-len", "9", "--max-concurrency", "1,3", "--num-prompts", "6")
    found = bench(server, *grid, "--endpoint", endpoint)
    assert len(found) == 4
    for point in found:
        assert (point["completed"], point["failed"]) == (6, 0)
        assert point["total_output_tokens"] == 6 * 9
        # The vocabulary has bytes alone: a word is five tokens.
        assert abs(point["total_input_tokens"] / 6 - point["input_len"]) <= 2.5
        assert 1 <= point["tokens_per_arrival"] < 9
        assert point["host"]["cpu_percent"] > 0
    server.wait_idle()


def test_times_are_the_server_s_own_and_the_way_there_and_back(server: LiveServer) -> None:
    """A client cannot see a reply sooner than the server has it, nor much later."""
    before = {name: sums(server, metric) for name, metric in HISTOGRAMS.items()}
    (point,) = bench(server, *("--input-len", "300", "--output-len", "40", "--num-prompts", "8", "--num-warmups", "0"))
    server.wait_idle()
    for name, metric in HISTOGRAMS.items():
        total, count = (after - known for after, known in zip(sums(server, metric), before[name], strict=True))
        assert count == 10, "eight requests, and two first questions"
        assert 1e3 * total / 8 < point[f"mean_{name}_ms"] * 1.5
        assert point[f"mean_{name}_ms"] < 1e3 * total / 8 + 100


def sums(server: LiveServer, metric: str) -> tuple[float, float]:
    return server.metric(f"{metric}_sum"), server.metric(f"{metric}_count")


def test_prompts_beyond_the_model_are_skipped(start_server: StartServer) -> None:
    server = start_server("--max-model-len", "256")
    found = bench(server, "--input-len", "200", "--output-len", "40,60", "--num-prompts", "2")
    assert ["skipped" in point for point in found] == [False, True]
    assert found[1]["skipped"] == "the server takes 256 tokens of prompt and reply"
    server.stop()
