"""`ilmari demo`: from nothing to an answer, by the same steps as with any model."""

import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ilmari.cli.options import Threads
from ilmari.errors import OutputError

QUESTION = "What is gravity?"
MAX_TOKENS = 256


class Dtype(StrEnum):
    """`backend.dtype` of the demo's recipe."""

    INT8 = "int8"
    FP16 = "fp16"
    BF16 = "bf16"


def demo_command(
    prompt: Annotated[str, typer.Option(metavar="TEXT", help="The question.")] = QUESTION,
    max_tokens: Annotated[int, typer.Option(help="The most tokens of the answer.")] = MAX_TOKENS,
    dtype: Annotated[Dtype, typer.Option(help="Precision of the weights.")] = Dtype.INT8,
    keep: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep checkpoint, recipe and artifact here, to go on with.")
    ] = None,
    threads: Threads = None,
) -> None:
    """Fetch a small real model, compile it, and ask it a question."""
    from ilmari.cli.progress import progress
    from ilmari.cli.reply import load_model, write_reply
    from ilmari.compile.config import load_config
    from ilmari.compile.pipeline import compile_model
    from ilmari.demo.download import WEIGHTS, fetch_weights
    from ilmari.demo.gguf_checkpoint import source_sha256, write_checkpoint
    from ilmari.demo.recipe import write_recipe
    from ilmari.engine.sampling_params import SamplingParams

    params = SamplingParams(temperature=0, max_tokens=max_tokens)
    with _workplace(keep) as folder:
        checkpoint = folder / "checkpoint"
        if not checkpoint.exists():
            _say(f"1. write SmolLM2-135M-Instruct (Apache-2.0) as an InternLM2 checkpoint, {checkpoint}")
            with progress() as report:
                write_checkpoint(fetch_weights(report), checkpoint, report)
        elif source_sha256(checkpoint) == WEIGHTS.sha256:
            _say(f"1. use SmolLM2-135M-Instruct (Apache-2.0) in {checkpoint}, from an earlier demo")
        else:
            raise OutputError(
                f"{checkpoint} is there already, and not from the demo; name another folder with --keep, or remove it."
            )

        recipe = write_recipe(folder, checkpoint, dtype.value)
        settings = load_config(recipe)
        artifact = folder / settings.name
        _say("2. compile it for this CPU, as this would", f"ilmari compile {shlex.quote(str(recipe))}")
        with progress() as report:
            compile_model(settings, report=report)

        _say("3. ask it, as this would", f"ilmari chat --model {shlex.quote(str(artifact))}")
        llm = load_model(artifact, threads)
        question = llm.render([{"role": "user", "content": prompt}])
        typer.echo(f"> {prompt}", err=True)
        reply = write_reply(llm.stream(question, params))
        _say(reply.speed)
    if keep is None:
        _say("Nothing was kept; `ilmari demo --keep DIR` leaves all of it in DIR, for `ilmari chat`.")


@contextmanager
def _workplace(keep: Path | None) -> Iterator[Path]:
    """The folder to keep, or one that is gone when the block ends in whatever way."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="ilmari-demo-") as folder:
            yield Path(folder)
        return
    try:
        keep.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"--keep {keep} cannot be made ({error.strerror}); name a folder to write to.") from error
    yield keep


def _say(heading: str, command: str | None = None) -> None:
    typer.secho(heading, bold=True, err=True)
    if command is not None:
        typer.secho(f"   $ {command}", dim=True, err=True)
