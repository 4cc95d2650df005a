"""What people read of load tests: a table of a grid, or everything about one point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ilmari.cli.output import print_table

METRICS = {
    "ttft": "time to first token (TTFT), ms",
    "tpot": "time per output token (TPOT), ms",
    "itl": "inter-token latency (ITL), ms",
    "e2el": "end-to-end latency (E2E), ms",
}
TOTALS = {
    "duration": "duration, s",
    "completed": "completed",
    "failed": "failed",
    "total_input_tokens": "input tokens",
    "total_output_tokens": "output tokens",
    "request_throughput": "requests/s",
    "output_throughput": "output tokens/s",
    "total_token_throughput": "input and output tokens/s",
    "tokens_per_arrival": "tokens that arrive together",
    "request_goodput": "good requests/s",
}
HOST = {
    "cpu_percent": "host: CPU busy, % of all cores",
    "memory_gb": "host: memory in use at most, GB",
    "client_cpu_percent": "host: CPU of this client, % of a core",
}
PLACE = (("in", "input_len"), ("out", "output_len"), ("clients", "max_concurrency"), ("asked/s", "request_rate"))


def print_result(result: Mapping[str, Any]) -> None:
    """A result as tables."""
    settings, points = result["settings"], result["points"]
    print(f"{settings['model']} at {settings['base_url']}, {settings['endpoint']}\n")
    measured = [point for point in points if "skipped" not in point]
    if len(points) == 1 and measured:
        _print_point(measured[0], settings["percentiles"])
    elif measured:
        _print_grid(measured, settings["percentiles"])
    for point in points:
        place = ", ".join(f"{point[key]} {heading}" for heading, key in PLACE if point[key] is not None)
        if "skipped" in point:
            print(f"skipped: {place}: {point['skipped']}")
        for error, count in point.get("errors", {}).items():
            print(f"failed: {place}: {count} x {error}")


def _print_grid(points: Sequence[Mapping[str, Any]], percentiles: Sequence[float]) -> None:
    high = f"p{percentiles[-1]:g}"
    columns = (
        *_filled(PLACE, points),
        ("ok", "completed"),
        ("failed", "failed"),
        ("req/s", "request_throughput"),
        ("good/s", "request_goodput"),
        ("out tok/s", "output_throughput"),
        ("TTFT ms", "median_ttft_ms"),
        (high.upper(), f"{high}_ttft_ms"),
        ("TPOT ms", "median_tpot_ms"),
        (high.upper(), f"{high}_tpot_ms"),
        ("ITL ms", "median_itl_ms"),
        (high.upper(), f"{high}_itl_ms"),
        ("E2E ms", "median_e2el_ms"),
        (high.upper(), f"{high}_e2el_ms"),
    )
    print_table(_filled(columns, points), points)


def _filled(columns: Sequence[tuple[str, str]], rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    return [(heading, key) for heading, key in columns if any(row.get(key) is not None for row in rows)]


def _print_point(point: Mapping[str, Any], percentiles: Sequence[float]) -> None:
    host = point["host"] or {}
    values = {**{TOTALS[key]: point.get(key) for key in TOTALS}, **{HOST[key]: host.get(key) for key in HOST}}
    rows = [{"what": what, "value": value} for what, value in values.items() if value is not None]
    print_table((("", "what"), ("", "value")), rows)
    print()
    picks = ["mean", "median", *(f"p{percent:g}" for percent in percentiles)]
    times = [{"what": what} | {pick: point[f"{pick}_{name}_ms"] for pick in picks} for name, what in METRICS.items()]
    print_table((("", "what"), *((pick.upper() if pick[0] == "p" else pick, pick) for pick in picks)), times)


def print_ratios(rows: Sequence[Mapping[str, Any]]) -> None:
    """A table of how the second of two results compares with the first."""
    columns = (
        *PLACE,
        ("req/s", "request_throughput"),
        ("good/s", "request_goodput"),
        ("out tok/s", "output_throughput"),
        ("TTFT", "median_ttft_ms"),
        ("P99", "p99_ttft_ms"),
        ("TPOT", "median_tpot_ms"),
        ("P99", "p99_tpot_ms"),
        ("ITL", "median_itl_ms"),
        ("P99", "p99_itl_ms"),
        ("E2E", "median_e2el_ms"),
        ("P99", "p99_e2el_ms"),
    )
    print_table(_filled(columns, rows), rows)
