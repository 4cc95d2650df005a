"""Options that the verbs of `ilmari eval` share."""

from pathlib import Path
from typing import Annotated

import typer

TextFile = Annotated[
    Path, typer.Option("--data", metavar="FILE", help="UTF-8 text, or a .jsonl with a `text` on each line.")
]
Window = Annotated[
    int | None,
    typer.Option(
        min=2,
        metavar="N",
        help="Tokens that are read together; 1024 by default, or as many as the artifact takes. There is no bos, and "
        "the first token of each window is not scored.",
    ),
]
Tokens = Annotated[int | None, typer.Option(min=2, metavar="N", help="Read the first N tokens; all by default.")]
Output = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.json",
        help="Write the result there too. If this is interrupted, the same command goes on where it was.",
    ),
]
