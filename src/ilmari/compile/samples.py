"""What a calibration starts from: the samples of a data set, and a fingerprint of all that its result depends on."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Many
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from ilmari.checkpoint.checkpoint import Checkpoint
from ilmari.datasets.calibration import Calibration, calibration_tokens
from ilmari.datasets.windows import Window
from ilmari.kernels.target import HOST, resolve_target
from ilmari.model.chat import ChatTemplate
from ilmari.model.tokenizer import Tokenizer
from ilmari.report import Progress
from ilmari.settings import num_threads


def draw_samples(calibration: Calibration, folder: Path, max_seq_len: int, progress: Progress) -> list[Window]:
    """The token ids of a data set's samples, by the tokenizer and chat template in an artifact's `folder`.

    Raises:
        ConfigError, DataError: as `calibration_tokens`.
    """
    tokenizer = Tokenizer.load(folder)
    chat = ChatTemplate.load(folder, tokenizer.bos_token, tokenizer.eos_token)
    return calibration_tokens(calibration, tokenizer, chat, max_seq_len=max_seq_len, progress=progress)


def fingerprint(checkpoint: Checkpoint, settings: Mapping[str, Any], samples: Many[Window] | None) -> dict[str, Any]:
    """Everything that quantized layers depend on, as JSON; `samples` are None where the model writes its own.

    The last bits of matrix products depend on the machine and on the number of threads.

    Raises:
        CheckpointError: a file of weights can no longer be read.
    """
    return {
        "ilmari": version("ilmari"),
        "numpy": np.__version__,
        "cpu": asdict(resolve_target(HOST)),
        "threads": num_threads(),
        "model": asdict(checkpoint.config),
        "weights": checkpoint.digest(),
        "settings": dict(settings),
        "samples": None if samples is None else [xxhash.xxh3_128_hexdigest(sample.tobytes()) for sample in samples],
    }
