"""What quantization lost, projection by projection: a table, the worst first, or a picture."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ilmari.cli.errors import printable
from ilmari.errors import OutputError, RequestError

if TYPE_CHECKING:
    from ilmari.artifact.artifact import Artifact
    from ilmari.artifact.quantization import ProjectionErrors, Quantization, QuantizationReport

NAME = 20  # columns
COLUMNS = ("output error", "by rounding", "weight error", "by rounding", "clipped")


def show_quantization(artifact: Artifact, *, plot: Path | None, as_json: bool) -> None:
    """Print the report of an artifact with int8 weights, and draw it to `plot`.

    Raises:
        RequestError: the weights are floats, or nothing is installed that draws.
        ArtifactError: the report is missing or damaged.
        OutputError: the picture cannot be written.
    """
    from ilmari.artifact.quantization import read_report

    if artifact.manifest.quantization is None:
        raise RequestError(
            f"{artifact.folder} has {artifact.manifest.plan.scheme.weights} weights, which were not quantized; give an "
            "artifact with int8 weights."
        )
    report = read_report(artifact.folder)
    if plot is not None:
        draw(report, artifact.manifest.name, plot)
    if as_json:
        print(json.dumps(asdict(report), indent=2))
        return
    typer.secho(printable(f"{artifact.manifest.name}: {describe(report.quantization)}"), bold=True)
    print()
    typer.secho(_line("", *COLUMNS), dim=True)
    for each in report.worst_first():
        print(_line(each.name, *map(_percent, _values(each))))


def describe(quantization: Quantization) -> str:
    """How weights were quantized, in words."""
    if (calibration := quantization.calibration) is None:
        return quantization.layers
    settings = [name for name in ("act_order", "true_sequential") if getattr(calibration, name)]
    return ", ".join(
        [
            f"{quantization.layers} on {calibration.samples} samples of {calibration.source} "
            f"({calibration.tokens:,} tokens)",
            f"damp_percent {calibration.damp_percent:g}",
            *settings,
            f"head {quantization.head}",
        ]
    )


def _values(errors: ProjectionErrors) -> tuple[float | None, ...]:
    calibrated = errors.output is not None
    return (
        errors.output,
        errors.rounded_output,
        errors.weight,
        errors.rounded_weight if calibrated else None,
        errors.clipped if calibrated else None,
    )


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.4%}"


def _line(name: str, *cells: str) -> str:
    return (name.ljust(NAME) + "".join(cell.rjust(14) for cell in cells)).rstrip()


def draw(report: QuantizationReport, title: str, path: Path) -> None:
    """A PNG: each projection's error by layer, of the output where it is known and else of the weights.

    What rounding to nearest would have done is drawn as a thin line of the same colour.

    Raises:
        RequestError: matplotlib is not installed.
        OutputError: the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise RequestError("--plot needs matplotlib; install it with `pip install 'ilmari[bench]'`.") from None

    layers = [each for each in report.projections if each.layer is not None]
    calibrated = report.quantization.calibration is not None
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    for index, name in enumerate(dict.fromkeys(each.projection for each in layers)):
        here = [each for each in layers if each.projection == name]
        places = [each.layer for each in here if each.layer is not None]
        errors = [each.output if calibrated else each.weight for each in here]
        axes.plot(places, [100 * (error or 0) for error in errors], color=f"C{index}", marker="o", ms=3, label=name)
        if calibrated:
            rounded = [100 * (each.rounded_output or 0) for each in here]
            axes.plot(places, rounded, color=f"C{index}", linewidth=0.8, linestyle=":")
    axes.set_xlabel("layer")
    axes.set_ylabel(f"error of the {'output' if calibrated else 'weights'}, %")
    axes.set_ylim(bottom=0)
    axes.set_title(f"{title}: {report.quantization.layers}{' (dotted: round to nearest)' if calibrated else ''}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, ncols=2)
    try:
        figure.savefig(path, format="png", dpi=150)
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror or error}); choose another --plot.") from error
