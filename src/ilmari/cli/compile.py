"""`ilmari compile`: a YAML configuration in, an artifact folder out."""

import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Activation(StrEnum):
    """Bits that are kept of a linear layer's inputs."""

    A16 = "a16"
    A8 = "a8"


def compile_command(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG.yaml", help="The configuration, as `vamc compile` takes it.")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Replace a key, such as frontend.model_kwargs.tp=1; null removes it; may be repeated.",
        ),
    ] = None,
    activation: Annotated[
        Activation | None,
        typer.Option(
            help="With int8 weights: 16-bit activations, or 8-bit ones, quantized in groups while it runs: faster, "
            "less exact. By default as quantize.type says."
        ),
    ] = None,
    target: Annotated[str, typer.Option(metavar="NAME", help="The CPU to compile for; host is this one.")] = "host",
) -> None:
    """Compile a checkpoint to an artifact, which the others run."""
    from ilmari.compile.config import load_config

    settings = load_config(config, overrides or (), activation)
    for notice in settings.notices:
        typer.secho(notice, dim=True, err=True)

    from ilmari.cli.progress import progress
    from ilmari.compile.pipeline import compile_model

    with progress() as report:
        folder = compile_model(settings, target=target, report=report)
    print(f"wrote {folder}")
    print(f"next: ilmari chat --model {shlex.quote(str(folder))}")
