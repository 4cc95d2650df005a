"""Rotary frequencies and angles against the published formula and against transformers."""

import dataclasses
import math

import numpy as np
import pytest
from small_model import SMALL

from ilmari.model.config import DynamicNtk, ModelConfig
from ilmari.model.rope import cos_sin, inv_freq, rope_base

PLAIN = dataclasses.replace(SMALL, head_dim=80, max_position_embeddings=256, rope_theta=1e6)


def scaled(factor: float) -> ModelConfig:
    return dataclasses.replace(PLAIN, rope_scaling=DynamicNtk(factor))


@pytest.mark.parametrize("prompt_len", [1, 255, 256])
def test_a_short_prompt_leaves_the_base_alone(prompt_len: int) -> None:
    np.testing.assert_array_equal(inv_freq(scaled(3.0), prompt_len), inv_freq(PLAIN, prompt_len))
    assert rope_base(scaled(3.0), prompt_len) == 1e6


def test_without_scaling_a_long_prompt_changes_nothing() -> None:
    np.testing.assert_array_equal(inv_freq(PLAIN, 100_000), inv_freq(PLAIN, 1))


def test_one_token_over_the_limit_changes_the_base() -> None:
    assert rope_base(scaled(2.0), 257) > 1e6


@pytest.mark.parametrize("factor", [1.0, 2.0, 2.5, 6.0])
@pytest.mark.parametrize("prompt_len", [1, 256, 257, 1000, 4097])
def test_frequencies_follow_the_formula(factor: float, prompt_len: int) -> None:
    frequencies = inv_freq(scaled(factor), prompt_len)
    assert frequencies.dtype == np.float32
    assert frequencies.shape == (40,)
    for pair in range(40):
        base = 1e6
        if prompt_len > 256:
            base *= math.pow(factor * prompt_len / 256 - (factor - 1), 80 / 78)
        assert frequencies[pair] == pytest.approx(math.pow(base, -2 * pair / 80), rel=1e-7)


@pytest.mark.torch
@pytest.mark.parametrize("factor", [2.0, 2.5])
@pytest.mark.parametrize("prompt_len", [1, 256, 257, 1000])
def test_frequencies_agree_with_transformers(factor: float, prompt_len: int) -> None:
    pytest.importorskip("torch")
    rope_utils = pytest.importorskip("transformers.modeling_rope_utils")
    llama = pytest.importorskip("transformers").LlamaConfig(
        hidden_size=320,
        num_attention_heads=4,
        head_dim=80,
        max_position_embeddings=256,
        rope_parameters={"rope_type": "dynamic", "factor": factor, "rope_theta": 1e6},
    )
    reference, _ = rope_utils.ROPE_INIT_FUNCTIONS["dynamic"](llama, seq_len=prompt_len)
    np.testing.assert_allclose(inv_freq(scaled(factor), prompt_len), reference.numpy(), rtol=5e-7)


def test_angles_are_float32_products() -> None:
    frequencies = inv_freq(PLAIN, 1)
    positions = np.array([0, 1, 7, 255, 32_767, 262_143], dtype=np.int32)
    cos, sin = cos_sin(positions, frequencies)
    assert cos.dtype == sin.dtype == np.float32
    assert cos.shape == sin.shape == (6, 40)
    for row, position in enumerate(positions):
        for pair, frequency in enumerate(frequencies):
            angle = float(np.float32(position) * frequency)
            assert cos[row, pair] == np.float32(math.cos(angle))
            assert sin[row, pair] == np.float32(math.sin(angle))


@pytest.mark.torch
def test_angles_agree_with_the_torch_formulation() -> None:
    torch = pytest.importorskip("torch")
    frequencies = inv_freq(PLAIN, 1)
    positions = np.arange(32_700, 32_768)
    angles = torch.outer(torch.from_numpy(positions).float(), torch.from_numpy(frequencies))
    cos, sin = cos_sin(positions, frequencies)
    np.testing.assert_allclose(cos, angles.cos().numpy(), atol=2e-7)
    np.testing.assert_allclose(sin, angles.sin().numpy(), atol=2e-7)
