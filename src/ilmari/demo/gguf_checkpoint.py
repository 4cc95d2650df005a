"""A Llama in a GGUF file, written as an InternLM2 checkpoint folder.

InternLM2 is Llama with other names and one fused projection: `wqkv` holds, for each KV head, the query heads that
share it, then its key, then its value. So real Llama weights, renamed and interleaved, are a real InternLM2 model.
"""

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ilmari.demo.gguf_file import GgufFile
from ilmari.demo.gguf_tokenizer import read_tokenizer, tokenizer_config
from ilmari.errors import CheckpointError, OutputError
from ilmari.report import Report

STEP = "convert the demo weights"
WEIGHTS_FILE = "model.safetensors"
SOURCE = "source_sha256"
"""Where the metadata of the weights says what they were made from."""

# InternLM2 name: GGUF name. The embedding is tied in the source, so the output head is a copy of it.
_MODEL_TENSORS = {
    "model.tok_embeddings.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "output.weight": "token_embd.weight",
}
_LAYER_TENSORS = {
    "attention_norm.weight": "attn_norm.weight",
    "attention.wo.weight": "attn_output.weight",
    "ffn_norm.weight": "ffn_norm.weight",
    "feed_forward.w1.weight": "ffn_gate.weight",
    "feed_forward.w3.weight": "ffn_up.weight",
    "feed_forward.w2.weight": "ffn_down.weight",
}
_QKV_TENSORS = ("attn_q.weight", "attn_k.weight", "attn_v.weight")


def write_checkpoint(gguf: Path, folder: Path, report: Report) -> None:
    """Write the model of the file `gguf` as an InternLM2 checkpoint, float16, into the new folder `folder`.

    The folder appears whole or not at all, and `source_sha256` knows it again. `report` counts layers.

    Raises:
        CheckpointError: the file is not GGUF, or not of a Llama with tied embeddings and no other tensors.
        OutputError: `folder` exists and is not empty, or cannot be written.
    """
    source = GgufFile(gguf)
    with gguf.open("rb") as file:
        source_digest = hashlib.file_digest(file, "sha256").hexdigest()
    config = _config(source)
    tensors = _read_tensors(source, config, report)
    generation = {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    texts = {
        "config.json": _json(config),
        "generation_config.json": _json(generation),
        "tokenizer.json": read_tokenizer(source).to_str(),
        "tokenizer_config.json": _json(tokenizer_config(source)),
    }
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
            whole = Path(temporary) / folder.name
            whole.mkdir()
            for name, text in texts.items():
                (whole / name).write_text(text, encoding="utf-8")
            save_file(tensors, whole / WEIGHTS_FILE, metadata={"format": "pt", SOURCE: source_digest})
            whole.replace(folder)
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise OutputError(
            f"The checkpoint folder {folder} cannot be written ({reason}); "
            "name a new or empty folder on a disk with room for it."
        ) from error


def source_sha256(folder: Path) -> str | None:
    """The SHA-256 of the GGUF file that the checkpoint in `folder` was made from; None if it was made otherwise."""
    try:
        with safe_open(folder / WEIGHTS_FILE, framework="numpy") as file:
            return (file.metadata() or {}).get(SOURCE)
    except (OSError, SafetensorError):
        return None


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _config(source: GgufFile) -> dict[str, Any]:
    """The content of `config.json`, with the keys of a released InternLM2 checkpoint.

    Raises:
        CheckpointError: the file's architecture is not Llama, or a number is missing from its metadata.
    """
    if (architecture := source.metadata("general.architecture")) != "llama":
        raise CheckpointError(f"{source.path} is of architecture {architecture!r}; only 'llama' can be converted.")
    return {
        "architectures": ["InternLM2ForCausalLM"],
        "attn_implementation": "eager",
        "auto_map": {
            "AutoConfig": "configuration_internlm2.InternLM2Config",
            "AutoModelForCausalLM": "modeling_internlm2.InternLM2ForCausalLM",
            "AutoModel": "modeling_internlm2.InternLM2ForCausalLM",
        },
        "bias": False,
        "bos_token_id": source.metadata("tokenizer.ggml.bos_token_id"),
        "eos_token_id": source.metadata("tokenizer.ggml.eos_token_id"),
        "hidden_act": "silu",
        "hidden_size": source.metadata("llama.embedding_length"),
        "initializer_range": 0.02,
        "intermediate_size": source.metadata("llama.feed_forward_length"),
        "max_position_embeddings": source.metadata("llama.context_length"),
        "model_type": "internlm2",
        "num_attention_heads": source.metadata("llama.attention.head_count"),
        "num_hidden_layers": source.metadata("llama.block_count"),
        "num_key_value_heads": source.metadata("llama.attention.head_count_kv"),
        "pad_token_id": source.metadata("tokenizer.ggml.padding_token_id"),
        "pretraining_tp": 1,
        "rms_norm_eps": source.real("llama.attention.layer_norm_rms_epsilon"),
        "rope_scaling": None,
        "rope_theta": source.real("llama.rope.freq_base"),
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "transformers_version": "4.41.0",
        "use_cache": True,
        "vocab_size": source.metadata("llama.vocab_size"),
    }


def rotate_half_rows(rows: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Reorder query or key rows from RoPE over adjacent pairs (GGUF) to RoPE over two halves (InternLM2).

    `rows` is (heads * head_dim, columns). GGUF keeps the two rows that are rotated together side by side, at 2i and
    2i + 1 of a head; rotate-half expects them at i and i + head_dim / 2.
    """
    pairs = rows.reshape(heads, -1, 2, rows.shape[1])
    return pairs.swapaxes(1, 2).reshape(rows.shape)


def interleave_qkv(
    q: NDArray[np.float32], k: NDArray[np.float32], v: NDArray[np.float32], kv_heads: int, head_dim: int
) -> NDArray[np.float32]:
    """Fuse three projections into `wqkv`, whose rows are (kv_heads, q_per_kv + 2, head_dim).

    `q` is (heads * head_dim, columns); `k` and `v` are (kv_heads * head_dim, columns).
    """
    columns = q.shape[1]
    groups = [rows.reshape(kv_heads, -1, head_dim, columns) for rows in (q, k, v)]
    return np.concatenate(groups, axis=1).reshape(-1, columns)


def _read_tensors(source: GgufFile, config: dict[str, Any], report: Report) -> dict[str, NDArray[np.float16]]:
    layers = config["num_hidden_layers"]
    per_layer = (*_LAYER_TENSORS.values(), *_QKV_TENSORS)
    expected = {*_MODEL_TENSORS.values(), *(f"blk.{layer}.{name}" for layer in range(layers) for name in per_layer)}
    if unknown := source.tensor_names - expected:
        raise CheckpointError(
            f"{source.path} has a tensor {min(unknown)!r} that has no place in an InternLM2 checkpoint; "
            "use a GGUF file of a plain Llama with tied embeddings."
        )
    tensors = {ours: source.tensor(theirs).astype(np.float16) for ours, theirs in _MODEL_TENSORS.items()}
    for layer in range(layers):
        report(STEP, layer, layers)
        for ours, theirs in _LAYER_TENSORS.items():
            tensors[f"model.layers.{layer}.{ours}"] = source.tensor(f"blk.{layer}.{theirs}").astype(np.float16)
        wqkv = _read_wqkv(source, layer, config["num_attention_heads"], config["num_key_value_heads"])
        tensors[f"model.layers.{layer}.attention.wqkv.weight"] = wqkv.astype(np.float16)
    report(STEP, layers, layers)
    return tensors


def _read_wqkv(source: GgufFile, layer: int, heads: int, kv_heads: int) -> NDArray[np.float32]:
    q, k, v = (source.tensor(f"blk.{layer}.{name}") for name in _QKV_TENSORS)
    return interleave_qkv(
        rotate_half_rows(q, heads), rotate_half_rows(k, kv_heads), v, kv_heads, head_dim=q.shape[0] // heads
    )
