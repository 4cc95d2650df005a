"""Calibration text that the model writes itself, where the recipe names no data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ilmari.artifact.artifact import Artifact
from ilmari.engine.engine import Engine
from ilmari.engine.sampling_params import SamplingParams
from ilmari.report import Progress

SAMPLES = 32
LENGTH = 256
"""Tokens of a sample, its beginning-of-sequence token included."""


def write_text(artifact: Path, length: int, progress: Progress) -> list[NDArray[np.int32]]:
    """`SAMPLES` samples of `length` tokens, int32, drawn from the model at temperature 1 from its first token on.

    The seeds are fixed, so the same artifact writes the same text. `progress` counts tokens.
    """
    engine = Engine(Artifact.load(artifact), max_num_seqs=SAMPLES)
    bos = engine.config.bos_token_id
    sequences = [
        engine.add([bos], SamplingParams(max_tokens=length - 1, seed=seed, ignore_eos=True), frozenset())
        for seed in range(SAMPLES)
    ]
    while engine.has_work:
        engine.step()
        progress(sum(len(sequence.tokens) for sequence in sequences), SAMPLES * length)
    return [np.array(sequence.tokens, np.int32) for sequence in sequences]
