"""`ilmari bench kernels`: each kernel of an artifact, beside what the machine allows."""

from __future__ import annotations

from typing import Annotated

import typer

from ilmari.cli.bench.output import REACHED, Rounds, threads_of
from ilmari.cli.options import ArtifactOption, JsonFlag, Threads
from ilmari.cli.output import print_json, print_table
from ilmari.errors import RequestError

ROWS = "1,4,16,512"
CONTEXT = 512
ROUNDS = 5


def kernels_command(
    model: ArtifactOption,
    rows: Annotated[str, typer.Option(metavar="N,N,...", help="Tokens of a step.")] = ROWS,
    context: Annotated[int, typer.Option(min=0, metavar="N", help="Tokens cached before them.")] = CONTEXT,
    rounds: Rounds = ROUNDS,
    threads: Threads = None,
    as_json: JsonFlag = False,
) -> None:
    """Time each kernel of a model beside the machine's ceilings."""
    counts = _counts(rows)

    from ilmari.settings import set_num_threads

    set_num_threads(threads)

    from statistics import median

    from ilmari.artifact.artifact import Artifact
    from ilmari.bench.ceilings import Rates
    from ilmari.bench.kernels import measure
    from ilmari.bench.machine import provenance
    from ilmari.cli.progress import progress

    artifact = Artifact.load(model)
    with progress(live=False) as report:
        measured = measure(artifact, counts, context, rounds, report)
    result = {
        **Rates.of(measured.rates, max).fields(),
        "median": Rates.of(measured.rates, median).fields(),
        "kernels": measured.rows(),
        "context": context,
        "rounds": rounds,
        "model": artifact.manifest.name,
        **provenance(),
    }
    if not as_json:
        columns = (("kernel", "kernel"), ("rows", "rows"), ("ms", "ms"), ("median ms", "median_ms"), *REACHED)
        print(
            f"{result['model']} on {result['cpu']}, {threads_of(result)}: after {context} cached tokens, "
            f"{rounds} rounds; {result['read_gb_s']:.1f} GB/s read\n"
        )
        print_table(columns, result["kernels"])
        print()
    print_json(result)


def _counts(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise RequestError(f"--rows is {text!r}; expected numbers with commas between, such as {ROWS}.") from error
