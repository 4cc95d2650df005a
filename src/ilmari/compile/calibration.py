"""From the `dataset` section of a recipe to the calibration data that it asks for."""

from pathlib import Path

from ilmari.compile.schema import KEYS, Dataset, given_keys
from ilmari.datasets.calibration import Calibration, Source
from ilmari.errors import ConfigError

MAX_TOKENS = 1 << 24
"""Tokens of one calibration: 64 MiB of them, and far more than changes a result."""


def calibration_of(dataset: Dataset | None, origin: Path) -> Calibration | None:
    """The calibration data of a recipe, None if its `dataset` section is absent or empty.

    Raises:
        ConfigError: the section names no set, or one set and a mixture; or it asks for too much, or for so little that
            a set of the mixture gives nothing. `origin` begins the sentence.
    """
    if dataset is None or not any(given_keys(dataset)):
        return None
    calibration = Calibration(
        sources=_sources(dataset, origin),
        nsamples=dataset.nsamples or Calibration.nsamples,
        seqlen=dataset.seqlen or Calibration.seqlen,
        seed=dataset.seed or Calibration.seed,
    )
    nsamples, seqlen = calibration.nsamples, calibration.seqlen
    if nsamples * seqlen > MAX_TOKENS:
        raise ConfigError(
            f"{origin}: `dataset.nsamples` is {nsamples} and `dataset.seqlen` {seqlen}, which makes "
            f"{nsamples * seqlen:,} tokens; calibrate with at most {MAX_TOKENS:,}."
        )
    for source, share in zip(calibration.sources, calibration.shares, strict=True):
        if share == 0:
            raise ConfigError(
                f"{origin}: `dataset.nsamples` is {nsamples}, of which the weights in `dataset.mix` leave none for "
                f"{source.path}; raise either."
            )
    return calibration


def _sources(dataset: Dataset, origin: Path) -> tuple[Source, ...]:
    if dataset.mix is not None:
        if dataset.name is not None or dataset.path is not None:
            raise ConfigError(
                f"{origin}: `dataset` has a set beside `dataset.mix`; remove it, or move it into the list."
            )
        return tuple(Source(item.name, Path(item.path), item.weight) for item in dataset.mix)
    if dataset.name is None or dataset.path is None:
        key = "dataset.name" if dataset.name is None else "dataset.path"
        raise ConfigError(f"{origin}: `{key}` is missing; expected {KEYS[key].description}, or a list `dataset.mix`.")
    return (Source(dataset.name, Path(dataset.path)),)
