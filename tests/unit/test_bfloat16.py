"""bfloat16 weights: rounding against another library, and a bfloat16 checkpoint bit for bit in the artifact."""

from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
from checkpoints import TINY_SIZES, raw_weights, write_checkpoint

from ilmari.artifact.artifact import Artifact
from ilmari.quant.bfloat16 import bfloat16, to_bfloat16


def test_rounding() -> None:
    rng = np.random.default_rng(5)
    values = (rng.standard_normal(4096) * 10 ** rng.uniform(-38, 38, 4096)).astype(np.float32)
    values[:6] = 0, -0.0, 1 + 2**-8, 1 + 3 * 2**-8, 1e-40, -3.38e38
    np.testing.assert_array_equal(to_bfloat16(values), values.astype(ml_dtypes.bfloat16).view(np.uint16))


def test_scale_is_one() -> None:
    weight = np.array([[1.5, -2], [0, 3e38], [1e-30, 0]], np.float32)
    encoded = bfloat16(weight)
    assert encoded.values.dtype == np.uint16
    assert encoded.scale.tolist() == [1, 1, 1]


def test_a_bfloat16_checkpoint_is_kept_bit_for_bit(compile_tiny: Callable[..., Path], tmp_path: Path) -> None:
    checkpoint = raw_weights(write_checkpoint(tmp_path / "checkpoint", **TINY_SIZES | {"dtype": "bfloat16"}))
    params = Artifact.open(compile_tiny("bf16", dtype="bfloat16")).params()
    np.testing.assert_array_equal(params["embedding"], checkpoint["model.tok_embeddings.weight"].view(np.uint16))
    head = checkpoint["output.weight"].view(np.uint16)
    rows = params["head.weight"].transpose(0, 2, 1).reshape(-1, head.shape[1])
    np.testing.assert_array_equal(rows[: len(head)], head)
    assert (rows[len(head) :] == 0).all()
    assert (params["head.scale"] == (np.arange(len(rows)) < len(head))).all()
