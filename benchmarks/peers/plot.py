"""Draws the figures of a result of compare.py as bar charts.

    CACHE/openvino/venv/bin/python -m benchmarks.peers.plot RESULT.json FOLDER

One PNG for prefill and one for decoding: a panel for each figure, a bar for each engine (its best; a tick at its
median) and the machine's ceilings as lines. The colours are those of Okabe and Ito, told apart by all kinds of eyes.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

mpl.use("agg")

COLOURS = {"ilmari": "#0072B2", "llama.cpp": "#E69F00", "OpenVINO": "#009E73"}
CEILING = "#D55E00"
MEDIAN = "#000000"
NEAR = 0.95
TITLES = {
    "prefill_512": "prompt of 512 tokens",
    "prefill_1024": "prompt of 1024 tokens",
    "decode_batch_1": "1 sequence",
    "decode_batch_4": "4 sequences",
    "decode_batch_16": "16 sequences",
}
CHARTS = {"prefill": "Prefill", "decode": "Decoding"}
BITS = {"int8": "int8", "batch": "int8", "fp16": "16 bits"}


def ceilings(bound: Mapping[str, float]) -> list[tuple[str, float]]:
    """The highest bounds, fastest first; of those that are as good as equal, the first one."""
    distinct: list[tuple[str, float]] = []
    for label, value in sorted(bound.items(), key=lambda item: -item[1]):
        if not distinct or value < NEAR * distinct[-1][1]:
            distinct.append((label, value))
    return distinct


def panel(axes: Axes, title: str, engines: Mapping[str, Mapping[str, float]], bound: Mapping[str, float]) -> None:
    """One figure: horizontal bars, the first engine on top."""
    for row, (name, speeds) in enumerate(engines.items()):
        colour = next(colour for family, colour in COLOURS.items() if name.startswith(family))
        axes.barh(row, speeds["best"], color=colour, height=0.7)
        axes.plot([speeds["median"]] * 2, [row - 0.35, row + 0.35], color=MEDIAN, linewidth=1.5)
        axes.annotate(f" {speeds['best']:.3g}", (speeds["best"], row), va="center")
    for style, (label, value) in zip(("--", ":"), ceilings(bound), strict=False):
        axes.axvline(value, color=CEILING, linestyle=style)
        text = f"at most {value:.3g} ({label})"
        axes.annotate(text, (value, -0.55), ha="right", va="bottom", color=CEILING, fontsize="small")
    axes.set_yticks(range(len(engines)), list(engines))
    axes.set_ylim(len(engines) - 0.5, -1.1)
    axes.set_xlim(0, 1.12 * max([speeds["best"] for speeds in engines.values()] + list(bound.values())))
    axes.set_title(title, loc="left", fontsize="medium")
    axes.spines[["top", "right"]].set_visible(False)


def chart(result: Mapping[str, Any], kind: str, path: Path) -> None:
    """All figures of one kind, whatever stage they are of."""
    figures = [(stage, figure) for stage in result for figure in result[stage]["figures"] if figure.startswith(kind)]
    heights = [len(result[stage]["figures"][figure]) + 1.5 for stage, figure in figures]
    fig, rows = plt.subplots(
        len(figures), figsize=(9, 0.42 * sum(heights) + 0.6), height_ratios=heights, squeeze=False, layout="constrained"
    )
    for (stage, figure), (axes,) in zip(figures, rows, strict=True):
        measured = result[stage]
        title = f"{CHARTS[kind]}, {TITLES[figure]}, weights of {BITS[stage]}"
        panel(axes, title, measured["figures"][figure], measured["bounds"][figure])
    rows[-1][0].set_xlabel("tokens/s: best of all rounds; black tick: median")
    first = next(iter(result.values()))
    fig.suptitle(f"InternLM2-1.8B, {first['threads']} threads, {first['cpu']}, {first['date']}", fontsize="medium")
    fig.savefig(path, dpi=150)


if __name__ == "__main__":
    data, folder = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    for kind in CHARTS:
        chart(data, kind, folder / f"peers_{kind}.png")
