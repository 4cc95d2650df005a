"""`ilmari inspect`: what an artifact is, on any machine."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ilmari.cli.errors import printable
from ilmari.cli.options import ArtifactArgument, JsonFlag
from ilmari.cli.quantization import describe, show_quantization
from ilmari.cli.units import si

if TYPE_CHECKING:
    from ilmari.artifact.summary import DecodeCost, Summary
    from ilmari.model.config import ModelConfig

Rows = list[tuple[str, str]]
LABEL = 22  # columns


def inspect_command(
    folder: ArtifactArgument,
    quantization: Annotated[
        bool, typer.Option("--quantization", help="Instead say what int8 weights lost, the worst projections first.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw that, layer by layer; needs matplotlib.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Say what an artifact is: model, precision, target, cost, files."""
    from ilmari.artifact.artifact import Artifact
    from ilmari.artifact.summary import summarize

    artifact = Artifact.open(folder)
    if quantization or plot:
        show_quantization(artifact, plot=plot, as_json=as_json)
        return
    summary = summarize(artifact)
    if as_json:
        print(json.dumps(asdict(summary), indent=2))
        return
    typer.secho(printable(summary.name), bold=True)
    for rows in (_model(summary), _precision(summary), _target(summary), _cost(summary), _files(summary)):
        print()
        for label, value in rows:
            _print_row(label, value)


def _print_row(label: str, value: str) -> None:
    """One line for each row, so that `grep` finds it; on a terminal long ones are wrapped under their column."""
    width = shutil.get_terminal_size().columns - LABEL if sys.stdout.isatty() else sys.maxsize
    for line in textwrap.wrap(printable(value), max(width, 20)):
        typer.echo(typer.style(label.ljust(LABEL), dim=True) + line)
        label = ""


def _model(summary: Summary) -> Rows:
    model = summary.model
    return [
        ("architecture", model.architecture),
        ("parameters", si(summary.parameters, "")),
        ("layers", f"{model.num_hidden_layers}"),
        ("hidden size", f"{model.hidden_size:,}"),
        ("intermediate size", f"{model.intermediate_size:,}"),
        ("query heads", f"{model.num_attention_heads} of size {model.head_dim}"),
        ("key-value heads", f"{model.num_key_value_heads}"),
        ("vocabulary", f"{model.vocab_size:,} tokens"),
        ("RoPE", _rope(model)),
    ]


def _rope(model: ModelConfig) -> str:
    base = f"base {model.rope_theta:,g}, made for {model.max_position_embeddings:,} tokens"
    if model.rope_scaling is None:
        return base
    return f"{base}, longer prompts by dynamic NTK with factor {model.rope_scaling.factor:g}"


def _precision(summary: Summary) -> Rows:
    precision = summary.precision
    return [
        ("scheme", precision.scheme),
        ("weights", precision.weights),
        *([("quantized", describe(summary.quantization))] if summary.quantization else []),
        ("activations", precision.activations),
        ("embedding", precision.embedding),
        ("norms", precision.norms),
        ("KV cache", f"{precision.kv_cache}, {si(summary.kv_bytes_per_token, 'B')} per token{_each(summary)}"),
    ]


def _target(summary: Summary) -> Rows:
    return [
        ("target", f"{summary.target.cpu} ({summary.target.arch})"),
        ("kernels", summary.instruction_set),
        ("CPU features", " ".join(summary.target.features) or "none beyond the architecture's own"),
        ("runs here", "yes" if summary.runs_here else f"no: {summary.reason}"),
    ]


def _cost(summary: Summary) -> Rows:
    return [
        ("longest prompt", f"{summary.max_prompt_len:,} tokens"),
        ("longest sequence", f"{summary.max_seq_len:,} tokens"),
        ("served for", summary.scheduling),
        ("tensor parallel", f"{summary.tp} rank{'' if summary.tp == 1 else 's'}"),
        ("FLOPs per token", _at_contexts(summary, lambda cost: si(cost.flops_per_token, "FLOP"))),
        ("bytes read per token", _at_contexts(summary, lambda cost: si(cost.bytes_read_per_token, "B"))),
    ]


def _each(summary: Summary) -> str:
    return "" if summary.tp == 1 else ", on each rank"


def _at_contexts(summary: Summary, say: Callable[[DecodeCost], str]) -> str:
    """One quantity of decoding, at both ends of what the artifact takes."""
    return ", ".join(f"{say(cost)} at context {cost.context:,}" for cost in summary.decode) + _each(summary)


def _files(summary: Summary) -> Rows:
    width = max(len(path) for path in summary.files)
    sizes = {**summary.files, "in all": sum(summary.files.values())}
    return [
        *(
            ("" if index else "files", f"{path:<{width}}  {si(size, 'B'):>8}")
            for index, (path, size) in enumerate(sizes.items())
        ),
        ("made by", f"ilmari {summary.ilmari_version}, manifest schema {summary.schema_version}"),
    ]
