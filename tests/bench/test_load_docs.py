"""docs/load.md says what `ilmari bench serve` takes and reports: every flag, default and figure, and no others."""

from __future__ import annotations

import json
import re
from pathlib import Path

import typer

from ilmari.bench.serve.figures import METRICS, figures
from ilmari.bench.serve.plan import GRIDS, ONE_POINT, PROMPTS_OF_OPEN_LOOP, PROMPTS_PER_CLIENT, Grid
from ilmari.bench.serve.prompts import WORDS
from ilmari.bench.serve.reply import Reply
from ilmari.cli.app import app

DOCS = (Path(__file__).resolve().parents[2] / "docs" / "load.md").read_text(encoding="utf-8")
SERVE = typer.main.get_command(app).commands["bench"].commands["serve"]  # type: ignore[attr-defined]


def rows(heading: str) -> list[list[str]]:
    """Cells of the table under a heading."""
    section = DOCS.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_flags() -> None:
    flags = {flag for option in SERVE.params for flag in (*option.opts, *option.secondary_opts)} - {"--help"}
    documented = [flag for cell, *_ in rows("Flags") for flag in names(cell)]
    assert sorted(documented) == sorted(flags)


def test_defaults() -> None:
    defaults = {flag: option.default for option in SERVE.params for flag in option.opts}
    own = {
        "--input-len": ONE_POINT.input_lens[0],
        "--output-len": ONE_POINT.output_lens[0],
        "--max-concurrency": ONE_POINT.max_concurrencies[0],
        "--num-prompts": f"{PROMPTS_PER_CLIENT} a client, {PROMPTS_OF_OPEN_LOOP} with a rate",
        "--model": "the only one",
        "--api-key": "`OPENAI_API_KEY`",
        "--ignore-eos": "on",
        "--json": "off",
    }
    for flags, default, _ in rows("Flags"):
        flag = names(flags)[0]
        expected = own.get(flag, defaults[flag])
        assert default == ("" if expected is None else str(expected)), flag


def test_the_recipe_s_lists() -> None:
    recipe = GRIDS[Grid.RECIPE]
    shown = [", ".join(map(str, each)) for each in (recipe.input_lens, recipe.output_lens, recipe.max_concurrencies)]
    assert f"`recipe`: {shown[0]} in, {shown[1]} out, {shown[2]} clients" in DOCS
    assert {len(word) for word in WORDS} == {4}


def test_figures() -> None:
    found = figures([Reply(0.0, [(1.0, 1), (2.0, 1)], 1, 2)], 2.0, (99,), {"ttft": 1}) | {"host": None}
    of_times = {name for name in found if re.search(rf"_({'|'.join(METRICS)})_ms$", name)}
    documented = {name for cell, _ in rows("Figures") for name in names(cell)}
    assert documented == found.keys() - of_times - {"errors"} | METRICS.keys()
    for example in ("mean_ttft_ms", "median_itl_ms", "p99_e2el_ms"):
        assert example in of_times
        assert f"`{example}`" in DOCS
    json.dumps(found, allow_nan=False)
