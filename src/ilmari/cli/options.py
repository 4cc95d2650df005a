"""Options that several verbs share, as types; their defaults are those of `SamplingParams`."""

from pathlib import Path
from typing import Annotated

import typer

from ilmari.engine.sampling_params import SamplingParams
from ilmari.settings import MAX_THREADS

DEFAULTS = SamplingParams()

ArtifactArgument = Annotated[Path, typer.Argument(metavar="DIR", help="An artifact, as `ilmari compile` writes it.")]
ArtifactOption = Annotated[
    Path, typer.Option("--model", metavar="DIR", help="An artifact, as `ilmari compile` writes it.")
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        "-t",
        metavar="N",
        min=1,
        max=MAX_THREADS,
        help="Threads of the kernels; without it ILMARI_NUM_THREADS, else the physical cores there are to use.",
    ),
]
Devices = Annotated[
    str | None,
    typer.Option(
        metavar="ID,...",
        help="A device for each rank: a NUMA node, or else a part of the CPUs; or CPUs, such as 0-7;8-15.",
        show_default="even parts",
    ),
]
Hosts = Annotated[
    str | None,
    typer.Option(metavar="NAME,...", help="Machines that the ranks run on, this one first.", show_default="this one"),
]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]

Temperature = Annotated[float, typer.Option(help="Divides the logits; 0 always takes the most probable token.")]
TopK = Annotated[int, typer.Option(help="Keep this many of the most probable tokens; 0 keeps all.")]
TopP = Annotated[float, typer.Option(help="Keep the fewest most probable tokens that together reach this.")]
MinP = Annotated[float, typer.Option(help="Keep tokens at least this probable relative to the most probable one.")]
RepetitionPenalty = Annotated[float, typer.Option(help="Above 1, tokens that have occurred become less likely.")]
Seed = Annotated[int | None, typer.Option(help="The same seed draws the same text; without one, each run differs.")]
