"""The figures of a grid as curves: a panel for each metric, a curve for each pair of lengths."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

PANELS = {
    "output_throughput": "output tokens/s",
    "median_ttft_ms": "time to first token, ms (median)",
    "median_tpot_ms": "time per output token, ms (median)",
    "median_e2el_ms": "end-to-end latency, ms (median)",
}
_SIZE = (11.0, 7.5)


def png_of(result: Mapping[str, Any]) -> bytes:
    """A picture of a result, over the clients or the rate.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    axis = "request_rate" if result["settings"]["request_rates"] else "max_concurrency"
    curves = _curves(result, axis)
    figure = Figure(figsize=_SIZE, layout="constrained")
    for axes, (metric, title) in zip(figure.subplots(2, 2).flat, PANELS.items(), strict=True):
        for label, points in curves.items():
            known = [(point[axis], point[metric]) for point in points if point[metric] is not None]
            axes.plot([x for x, _ in known], [y for _, y in known], marker="o", label=label)
        axes.set_xscale("log", base=2)
        ticks = sorted({point[axis] for points in curves.values() for point in points})
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.set_title(title, loc="left", fontsize="medium")
        axes.set_xlabel("clients" if axis == "max_concurrency" else "requests a second")
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, title="tokens in / out", frameon=False)
    figure.suptitle(f"{result['settings']['model']}, {result['date']}; client on {result['cpu']}", fontsize="medium")
    data = io.BytesIO()
    figure.savefig(data, format="png")
    return data.getvalue()


def _curves(result: Mapping[str, Any], axis: str) -> dict[str, list[dict[str, Any]]]:
    """Points that were measured, by the lengths of their prompts and replies, in the order of the axis."""
    curves: dict[str, list[dict[str, Any]]] = {}
    for point in sorted((each for each in result["points"] if "skipped" not in each), key=lambda each: each[axis]):
        inputs = "own prompts" if point["input_len"] is None else point["input_len"]
        curves.setdefault(f"{inputs} / {point['output_len']}", []).append(point)
    return curves
