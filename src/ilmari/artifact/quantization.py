"""What quantization did to a model: `quantization.json`, and what the manifest says about it."""

from __future__ import annotations

import json
from collections.abc import Sequence as Many
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from ilmari.errors import ArtifactError

FILE_NAME = "quantization.json"
MAX_BYTES = 16 << 20
DIGITS = 6
"""Significant digits of an error."""

GPTQ, ROUND_TO_NEAREST = "gptq", "round to nearest"


@dataclass(frozen=True)
class CalibrationRecord:
    """On what a method was calibrated, and how: samples of up to `seqlen` tokens, and GPTQ's settings."""

    source: str
    samples: int
    seqlen: int
    tokens: int
    damp_percent: float
    act_order: bool
    true_sequential: bool


@dataclass(frozen=True)
class Quantization:
    """How int8 weights came about: by which method in the layers and in the head, and on which data, if on any."""

    layers: str
    head: str
    calibration: CalibrationRecord | None


@dataclass(frozen=True)
class ProjectionErrors:
    """What one projection lost, as fractions.

    layer: None for the head. weight: |W - Q| / |W|. output: |X (W - Q)^T| / |X W^T| over the calibration data; None
    without any. rounded_weight, rounded_output: the same by rounding to nearest, where another method was used.
    clipped: the share of weights that lay beyond the largest level.
    """

    layer: int | None
    projection: str
    weight: float
    output: float | None = None
    rounded_weight: float | None = None
    rounded_output: float | None = None
    clipped: float = 0.0

    @property
    def name(self) -> str:
        """Where it is, for people."""
        return self.projection if self.layer is None else f"layers.{self.layer}.{self.projection}"


@dataclass(frozen=True)
class QuantizationReport:
    """The content of `quantization.json`."""

    quantization: Quantization
    projections: tuple[ProjectionErrors, ...]

    def worst_first(self) -> list[ProjectionErrors]:
        """The projections by what they do to the output, or, where that is not known, to the weights."""
        return sorted(self.projections, key=lambda each: (each.output or 0, each.weight), reverse=True)


_ADAPTER = TypeAdapter(QuantizationReport)


def significant(value: float) -> float:
    """`value` to the digits that the file has."""
    return float(f"{value:.{DIGITS}g}")


def error_ratio(energy: float, of: float) -> float:
    """The square root of a ratio of sums of squares; 0 where there is nothing to lose."""
    return significant((energy / of) ** 0.5 if of else 0.0)


def report_bytes(quantization: Quantization, projections: Many[ProjectionErrors]) -> bytes:
    """The file's content."""
    fields = asdict(QuantizationReport(quantization, tuple(projections)))
    return (json.dumps(fields, indent=1, ensure_ascii=False) + "\n").encode()


def read_report(folder: Path) -> QuantizationReport:
    """The report of the artifact in `folder`, whose weights are int8.

    Raises:
        ArtifactError: the file is missing or damaged.
    """
    path = folder / FILE_NAME
    try:
        with path.open("rb") as file:
            return _ADAPTER.validate_json(file.read(MAX_BYTES), strict=True)
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read ({error.strerror}); compile the model again.") from error
    except ValidationError as error:
        raise ArtifactError(f"{path} is damaged: it is not a whole report; compile the model again.") from error
