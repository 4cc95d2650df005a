"""The float pass of calibration against the same layer in NumPy's float64."""

from pathlib import Path

import numpy as np
import pytest
from checkpoints import write_checkpoint
from numpy.typing import NDArray

from ilmari.checkpoint.checkpoint import Checkpoint, LayerWeights
from ilmari.compile import layer_pass
from ilmari.compile.layer_pass import FloatLayer, LayerPass
from ilmari.compile.quantized_layer import matrices
from ilmari.kernels.attention_reference import attention_reference
from ilmari.model.config import ModelConfig

Float64 = NDArray[np.float64]

LENGTHS = (5, 1, 70, 33, 1, 20)  # of samples; a piece takes 64 tokens, so there are pieces of several and of one


def norm(x: Float64, weight: NDArray[np.float32], config: ModelConfig) -> Float64:
    return x / np.sqrt(np.square(x).mean(axis=1, keepdims=True) + config.rms_norm_eps) * weight


def rotated(x: Float64, config: ModelConfig) -> Float64:
    """Heads [length, heads, head_dim] at positions 0, 1, ..."""
    half = config.head_dim // 2
    angles = np.arange(len(x))[:, None, None] / config.rope_theta ** (np.arange(half) / half)
    first, second = x[..., :half], x[..., half:]
    turned = (first * np.cos(angles) - second * np.sin(angles), second * np.cos(angles) + first * np.sin(angles))
    return np.concatenate(turned, axis=2)


def reference(x: Float64, layer: LayerWeights, config: ModelConfig) -> tuple[dict[str, Float64], Float64]:
    """The inputs of the linear layers for one sample, and the layer's output."""
    heads = (len(x), -1, config.head_dim)
    qkv = norm(x, layer.attention_norm, config)
    q, k, v = ((qkv @ weight.T).reshape(heads) for weight in (layer.q, layer.k, layer.v))
    q = rotated(q, config) / config.head_dim**0.5
    o = attention_reference(q, rotated(k, config), v, 0).reshape(len(x), -1)
    x = x + o @ layer.o.T
    gate_up = norm(x, layer.ffn_norm, config)
    gate = gate_up @ layer.gate.T
    down = gate / (1 + np.exp(-gate)) * (gate_up @ layer.up.T)
    return {"qkv": qkv, "o": o, "gate_up": gate_up, "down": down}, x + down @ layer.down.T


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    sizes = {"heads": 6, "kv_heads": 2, "head_dim": 32, "intermediate": 200, "layers": 1}
    return Checkpoint.open(write_checkpoint(tmp_path / "checkpoint", **sizes))


def test_inputs_and_output(checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_pass, "ROWS", 64)
    config = checkpoint.config
    samples = [np.zeros(length, np.int32) for length in LENGTHS]
    run = LayerPass(config, samples, tmp_path)
    assert [piece.rows for piece in run.pieces] == [slice(0, 6), slice(6, 76), slice(76, 130)]
    assert not (tmp_path / "kernels.o").exists()

    hidden = np.random.default_rng(0).standard_normal((sum(LENGTHS), config.hidden_size), np.float32)
    before = hidden.copy()
    weights = checkpoint.layer(0)
    layer = FloatLayer(weights.attention_norm, weights.ffn_norm, matrices(weights, run.plan))
    found: dict[str, list[NDArray[np.float32]]] = {"qkv": [], "o": [], "gate_up": [], "down": []}
    for piece in run.pieces:
        for name, x in run.inputs(piece, layer, hidden):
            found[name].append(x.copy())
            if name == "down":
                break
    assert np.array_equal(hidden, before), "a pass that is left early changes nothing"

    references = [
        reference(sample.astype(np.float64), weights, config) for sample in np.split(before, np.cumsum(LENGTHS)[:-1])
    ]
    for name, pieces in found.items():
        want = np.concatenate([inputs[name] for inputs, _ in references])
        got = np.concatenate(pieces)
        assert got[:, : want.shape[1]] == pytest.approx(want, abs=3e-3), name
        assert not got[:, want.shape[1] :].any(), name

    run.run(layer, hidden)
    assert hidden == pytest.approx(np.concatenate([output for _, output in references]), abs=5e-3)
