"""Reading InternLM2 folders: every value exact, for every dtype and layout."""

import dataclasses
import json
import os
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from checkpoints import IM_END, ODD_SIZES, canonical_weights, raw_weights, write_checkpoint, write_weights
from safetensors.numpy import save_file
from tokenizers import Tokenizer

from ilmari.checkpoint.checkpoint import Checkpoint
from ilmari.checkpoint.safetensors import SafetensorsFile
from ilmari.checkpoint.wqkv import split_wqkv
from ilmari.errors import CheckpointError
from ilmari.model.config import ModelConfig

LLAMA_NAMES = {
    "attention_norm": "input_layernorm",
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "model", **ODD_SIZES)


def assert_reads_as(checkpoint: Checkpoint, weights: dict[str, np.ndarray]) -> None:
    """Every tensor of the checkpoint equals the reference bit for bit."""
    vocab = checkpoint.config.vocab_size
    np.testing.assert_array_equal(checkpoint.final_norm(), weights["model.norm.weight"])
    np.testing.assert_array_equal(checkpoint.embedding_rows(0, vocab), weights["model.embed_tokens.weight"])
    np.testing.assert_array_equal(checkpoint.head_rows(0, vocab), weights["lm_head.weight"])
    for index in range(checkpoint.config.num_hidden_layers):
        layer = checkpoint.layer(index)
        assert {field.name for field in dataclasses.fields(layer)} == LLAMA_NAMES.keys()
        for name, llama in LLAMA_NAMES.items():
            tensor = getattr(layer, name)
            assert type(tensor) is np.ndarray
            assert tensor.dtype == np.float32
            assert tensor.flags.c_contiguous
            np.testing.assert_array_equal(tensor, weights[f"model.layers.{index}.{llama}.weight"])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("shards", [1, 3])
def test_every_dtype_reads_exactly_from_one_file_and_from_shards(tmp_path: Path, dtype: str, shards: int) -> None:
    folder = write_checkpoint(tmp_path, **ODD_SIZES, dtype=dtype, shards=shards)
    assert_reads_as(Checkpoint.open(folder), canonical_weights(folder))


def test_head_dim_may_differ_from_hidden_size_over_heads(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, heads=3, kv_heads=3, head_dim=32, hidden=64, intermediate=40, vocab=37)
    checkpoint = Checkpoint.open(folder)
    assert checkpoint.config.head_dim == 32
    assert checkpoint.layer(0).o.shape == (64, 96)
    assert_reads_as(checkpoint, canonical_weights(folder))


def test_extreme_values_widen_exactly(tmp_path: Path) -> None:
    f16 = np.array([0, -0.0, 6e-8, 65504, -65504, 1 / 3], dtype=np.float16)
    bf16 = np.array([0, -0.0, 1e-40, 3.38e38, -3.38e38, 1 / 3], dtype=ml_dtypes.bfloat16)
    save_file({"f16": f16, "bf16": bf16}, tmp_path / "x.safetensors")
    file = SafetensorsFile.open(tmp_path / "x.safetensors")
    for name, values in {"f16": f16, "bf16": bf16}.items():
        expected = np.array([float(value) for value in values], dtype=np.float32)
        np.testing.assert_array_equal(file.read_rows(name).view(np.uint32), expected.view(np.uint32))


def test_row_ranges_are_those_rows(folder: Path) -> None:
    weights, checkpoint = canonical_weights(folder), Checkpoint.open(folder)
    np.testing.assert_array_equal(checkpoint.embedding_rows(5, 12), weights["model.embed_tokens.weight"][5:12])
    np.testing.assert_array_equal(checkpoint.head_rows(36, 37), weights["lm_head.weight"][36:37])


def test_rotary_buffers_of_old_exports_are_ignored(folder: Path) -> None:
    buffers = {
        f"model.layers.{layer}.attention.rotary_emb.inv_freq": np.ones(16, dtype=np.float32) for layer in range(2)
    }
    write_weights(folder, raw_weights(folder) | buffers)
    assert_reads_as(Checkpoint.open(folder), canonical_weights(folder))


def test_a_tied_head_is_the_embedding(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, **ODD_SIZES, tied=True)
    checkpoint = Checkpoint.open(folder)
    np.testing.assert_array_equal(checkpoint.head_rows(3, 9), checkpoint.embedding_rows(3, 9))
    assert_reads_as(checkpoint, canonical_weights(folder))


@pytest.mark.parametrize(("q_per_kv", "kv_heads"), [(1, 3), (2, 3), (3, 1), (4, 2), (8, 2)])
def test_wqkv_rows_go_to_their_heads(q_per_kv: int, kv_heads: int) -> None:
    head_dim, hidden = 16, 5
    config = ModelConfig(
        "InternLM2ForCausalLM", hidden, 1, 1, q_per_kv * kv_heads, kv_heads, head_dim, 1, 1, 1e-5, 1e4, None, 1, 2
    )
    wqkv = np.random.default_rng(q_per_kv).standard_normal((config.q_size + 2 * config.kv_size, hidden), np.float32)
    q, k, v = split_wqkv(wqkv, config)
    assert (q.shape, k.shape, v.shape) == ((config.q_size, hidden), (config.kv_size, hidden), (config.kv_size, hidden))
    row = 0
    for group in range(kv_heads):
        for head in range(q_per_kv):
            for i in range(head_dim):
                np.testing.assert_array_equal(q[(group * q_per_kv + head) * head_dim + i], wqkv[row])
                row += 1
        for part in (k, v):
            for i in range(head_dim):
                np.testing.assert_array_equal(part[group * head_dim + i], wqkv[row])
                row += 1
    assert row == len(wqkv)


def test_opening_reads_no_tensor_data(folder: Path) -> None:
    """A NaN is found when its tensor is read, not before, and other tensors stay readable."""
    tensors = raw_weights(folder)
    tensors["model.layers.1.feed_forward.w2.weight"][3, 4] = np.nan
    write_weights(folder, tensors)
    checkpoint = Checkpoint.open(folder)
    checkpoint.layer(0)
    with pytest.raises(CheckpointError, match=r"model\.layers\.1\.feed_forward\.w2\.weight.*NaN or infinite"):
        checkpoint.layer(1)


@pytest.mark.parametrize("value", [np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_an_infinite_value_names_its_tensor(tmp_path: Path, dtype: str, value: float) -> None:
    folder = write_checkpoint(tmp_path, **ODD_SIZES, dtype=dtype)
    tensors = raw_weights(folder)
    tensors["output.weight"][36, 0] = value
    write_weights(folder, tensors)
    checkpoint = Checkpoint.open(folder)
    checkpoint.head_rows(0, 36)
    with pytest.raises(CheckpointError, match=r"output\.weight.*NaN or infinite"):
        checkpoint.head_rows(30, 37)


def test_a_signalling_nan_is_an_error_and_not_a_warning(tmp_path: Path) -> None:
    save_file({"x": np.full(9, 0x7D00, dtype=np.uint16).view(np.float16)}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="NaN"):
        SafetensorsFile.open(tmp_path / "x.safetensors").read_rows("x")


def test_a_file_cut_after_opening_is_an_error(folder: Path) -> None:
    checkpoint = Checkpoint.open(folder)
    os.truncate(folder / "model.safetensors", 5000)
    with pytest.raises(CheckpointError, match="can no longer be read"):
        checkpoint.head_rows(0, 37)


def test_the_tiny_tokenizer_takes_any_text(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, **(ODD_SIZES | {"vocab": 320}), with_tokenizer=True)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    text = "Hyvää päivää, 你好\n\0 <|im_end|>"
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert ids[-1] == IM_END
    assert len(ids) == len(text.removesuffix("<|im_end|>").encode()) + 1
    assert tokenizer.decode(ids, skip_special_tokens=False) == text
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == [2, IM_END]
