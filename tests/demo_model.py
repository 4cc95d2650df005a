"""The independent reference: an InternLM2 checkpoint folder as a Llama of `transformers`, in float32."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

_MODEL_NAMES = {
    "model.tok_embeddings": "model.embed_tokens",
    "model.norm": "model.norm",
    "output": "lm_head",
}
_LAYER_NAMES = {
    "attention_norm": "input_layernorm",
    "attention.wo": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w3": "mlp.up_proj",
    "feed_forward.w2": "mlp.down_proj",
}


def llama_from_checkpoint(folder: Path) -> LlamaForCausalLM:
    """The model in `folder` (config.json and *.safetensors, InternLM2 names) with float32 weights, in eval mode.

    Shares no code with ilmari. With `rope_scaling: dynamic`, a forward pass over a whole sequence that is longer than
    `max_position_embeddings` uses the base of that sequence's length; a shorter one uses the plain base.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    stored = {name: tensor.float() for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}
    model = LlamaForCausalLM(_llama_config(config)).float().eval()
    model.load_state_dict(_llama_state(stored, config), strict=True)
    return model


def _llama_config(config: dict[str, Any]) -> LlamaConfig:
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": float(config["rope_theta"])}
    if scaling := config["rope_scaling"]:
        rope |= {"rope_type": scaling["type"], "factor": float(scaling["factor"])}
    same = (
        "bos_token_id eos_token_id hidden_act hidden_size intermediate_size max_position_embeddings num_attention_heads"
        " num_hidden_layers num_key_value_heads pad_token_id rms_norm_eps vocab_size"
    )
    return LlamaConfig(
        **{key: config[key] for key in same.split()},
        head_dim=_head_dim(config),
        attention_bias=config["bias"],
        rope_parameters=rope,
        tie_word_embeddings=False,
        attn_implementation="eager",
    )


def _llama_state(stored: dict[str, torch.Tensor], config: dict[str, Any]) -> dict[str, torch.Tensor]:
    state = {}
    for name, tensor in stored.items():
        stem, kind = name.rsplit(".", 1)
        if stem in _MODEL_NAMES:
            state[f"{_MODEL_NAMES[stem]}.{kind}"] = tensor
            continue
        layer, inner = stem.removeprefix("model.layers.").split(".", 1)
        prefix = f"model.layers.{layer}"
        if inner == "attention.wqkv":
            for part, rows in _split_wqkv(tensor, config).items():
                state[f"{prefix}.self_attn.{part}_proj.{kind}"] = rows
        else:
            state[f"{prefix}.{_LAYER_NAMES[inner]}.{kind}"] = tensor
    return state


def _split_wqkv(wqkv: torch.Tensor, config: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Walk the rows head by head: for each KV head, its query heads, then its key, then its value."""
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    of_group = ["q"] * (heads // kv_heads) + ["k", "v"]
    parts: dict[str, list[torch.Tensor]] = {"q": [], "k": [], "v": []}
    for part, rows in zip(of_group * kv_heads, wqkv.split(_head_dim(config)), strict=True):
        parts[part].append(rows)
    return {part: torch.cat(rows) for part, rows in parts.items()}


def _head_dim(config: dict[str, Any]) -> int:
    return int(config.get("head_dim", config["hidden_size"] // config["num_attention_heads"]))
