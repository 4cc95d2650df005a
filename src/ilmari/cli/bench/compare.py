"""`ilmari bench compare`: two results of `ilmari bench serve` side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ilmari.cli.options import JsonFlag
from ilmari.cli.output import print_json


def compare_command(
    first: Annotated[Path, typer.Argument(metavar="FIRST", help="A result.json, or its folder.")],
    second: Annotated[Path, typer.Argument(metavar="SECOND", help="Another one.")],
    as_json: JsonFlag = False,
) -> None:
    """Show one load test's figures over another's."""
    from ilmari.bench.serve.compare import ratios
    from ilmari.bench.serve.results import read_result
    from ilmari.cli.bench.serve_output import print_ratios

    rows = ratios(read_result(first), read_result(second))
    if as_json:
        print_json({"first": str(first), "second": str(second), "points": rows})
        return
    print(f"{second} over {first}; of tokens and requests more is better, of milliseconds less\n")
    print_ratios(rows)
