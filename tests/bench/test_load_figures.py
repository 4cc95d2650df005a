"""What is said of many replies, against NumPy's own definitions at odd sizes; and when open-loop clients come."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest

from ilmari.bench.serve.figures import distribution, figures, parse_goodput
from ilmari.bench.serve.host import host_load
from ilmari.bench.serve.load import closed_loop, open_loop, poisson_times
from ilmari.bench.serve.reply import Reply
from ilmari.errors import RequestError


def random_reply(rng: np.random.Generator, arrivals: int) -> Reply:
    asked = float(rng.uniform(0, 9))
    times = asked + np.cumsum(rng.exponential(0.1, arrivals))
    counts = rng.integers(1, 5, arrivals)
    return Reply(
        asked, [(float(now), int(count)) for now, count in zip(times, counts, strict=True)], 7, int(counts.sum()), 200
    )


@pytest.mark.parametrize("count", [1, 2, 3, 7, 101])
def test_figures(count: int) -> None:
    rng = np.random.default_rng(count)
    replies = [random_reply(rng, 1 + number % 9) for number in range(count)]
    failed = [Reply(1.0, error="HTTP 429: Later."), Reply(2.0, [(3.0, 1)], error="lost")]
    found = figures([*failed, *replies], 12.5, (90, 99.9), {"ttft": 100, "e2el": 400})

    first = np.array([reply.arrivals[0][0] - reply.asked for reply in replies])
    last = np.array([reply.arrivals[-1][0] - reply.asked for reply in replies])
    tokens = np.array([sum(number for _, number in reply.arrivals) for reply in replies])
    gaps = np.concatenate([np.diff([now for now, _ in reply.arrivals]) for reply in replies])
    several = tokens > 1
    for name, values in {
        "ttft": first,
        "tpot": ((last - first)[several] / (tokens[several] - 1)),
        "itl": gaps,
        "e2el": last,
    }.items():
        if not len(values):
            assert found[f"mean_{name}_ms"] is found[f"p90_{name}_ms"] is None
            continue
        assert found[f"mean_{name}_ms"] == pytest.approx(1e3 * np.mean(values, dtype=np.float64))
        for label, percent in (("median", 50), ("p90", 90), ("p99.9", 99.9)):
            assert found[f"{label}_{name}_ms"] == pytest.approx(1e3 * np.percentile(values, percent))
    assert (found["completed"], found["failed"]) == (count, 2)
    assert found["errors"] == {"HTTP 429: Later.": 1, "lost": 1}
    assert found["request_throughput"] == count / 12.5
    assert found["output_throughput"] == pytest.approx(tokens.sum() / 12.5)
    assert found["total_input_tokens"] == 7 * count
    assert found["total_token_throughput"] == pytest.approx((tokens.sum() + 7 * count) / 12.5)
    assert found["request_goodput"] == ((first <= 0.1) & (last <= 0.4)).sum() / 12.5
    assert found["tokens_per_arrival"] == pytest.approx(tokens.sum() / (len(gaps) + count))


def test_nothing_but_failures() -> None:
    found = figures([Reply(0.0, error="lost")], 1.0, (99,), {})
    assert (found["completed"], found["failed"], found["mean_ttft_ms"], found["total_input_tokens"]) == (
        0,
        1,
        None,
        None,
    )
    assert "request_goodput" not in found


def test_a_server_that_counts_nothing() -> None:
    found = figures([Reply(0.0, [(1.0, 1), (2.0, 1)])], 2.0, (99,), {})
    assert (found["total_output_tokens"], found["total_input_tokens"], found["total_token_throughput"]) == (
        2,
        None,
        None,
    )


def test_percentiles_have_their_own_names() -> None:
    assert set(distribution("itl", [0.001], (50, 99.9))) == {
        "mean_itl_ms",
        "median_itl_ms",
        "p50_itl_ms",
        "p99.9_itl_ms",
    }


@pytest.mark.parametrize(
    ("texts", "goals"),
    [
        ([], {}),
        (["ttft:200"], {"ttft": 200}),
        (["ttft:200,tpot:50.5"], {"ttft": 200, "tpot": 50.5}),
        (["ttft:200 tpot:50", "e2el:.5"], {"ttft": 200, "tpot": 50, "e2el": 0.5}),
    ],
)
def test_goodput(texts: list[str], goals: dict[str, float]) -> None:
    assert parse_goodput(texts) == goals


@pytest.mark.parametrize("text", ["", "ttft", "ttft:", "ttft:-1", "itl:5", "ttft:1e3", "ttft:200;tpot:50", "ttft:nan"])
def test_what_is_no_target(text: str) -> None:
    with pytest.raises(RequestError, match="is no target; expected METRIC:MILLISECONDS"):
        parse_goodput([text])


@pytest.mark.parametrize("rate", [0.5, 40.0])
def test_visitors_come_at_random(rate: float) -> None:
    """Gaps are exponential: mean and deviation are 1/rate, and their distribution is within Kolmogorov's bound."""
    count = 10_001
    times = poisson_times(rate, count, np.random.default_rng(1))
    gaps = np.sort(np.diff(times))
    assert times[0] == 0
    assert gaps.mean() * rate == pytest.approx(1, abs=0.04)
    assert gaps.std() * rate == pytest.approx(1, abs=0.06)
    expected = 1 - np.exp(-rate * gaps)
    steps = np.arange(count) / (count - 1)
    distance = max(np.abs(expected - steps[1:]).max(), np.abs(expected - steps[:-1]).max())
    assert distance < 1.63 / np.sqrt(count - 1)  # 1% of honest samples are farther away
    assert (poisson_times(rate, 9, np.random.default_rng(1)) == times[:9]).all()


def test_a_closed_loop_never_has_more_than_its_clients() -> None:
    running = most = 0

    async def ask(prompt: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001 * (prompt % 3))
        running -= 1
        return prompt

    assert sorted(asyncio.run(closed_loop(ask, range(23), 5))) == [*range(23)]
    assert most == 5


def test_an_open_loop_waits_for_nobody() -> None:
    times = [0.0, 0.05, 0.1, 0.15]
    seen = []
    last = asyncio.Event()

    async def ask(prompt: int) -> int:
        seen.append(time.perf_counter())
        if prompt == 3:
            last.set()
        await last.wait()  # no reply comes before everybody has asked
        return prompt

    began = time.perf_counter()
    assert asyncio.run(open_loop(ask, range(4), times)) == [*range(4)]
    assert all(now - began >= when for now, when in zip(seen, times, strict=True))


def test_the_load_of_the_host() -> None:
    async def busy() -> dict[str, float]:
        async with host_load() as load:
            end = time.process_time() + 0.2
            while time.process_time() < end:
                pass
        return load

    load = asyncio.run(busy())
    assert 0 < load["cpu_percent"] <= 100
    assert 0 < load["client_cpu_percent"] <= 105
    assert 0.01 < load["memory_gb"] < 1e5
