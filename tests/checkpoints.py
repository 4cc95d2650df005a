"""Small random InternLM2 checkpoints for every test that needs a model, written without the code under test."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import ml_dtypes
import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

Array = npt.NDArray[Any]

# the smallest sizes that show a mistake: 3 query heads on 1 KV head, nothing a power of two
ODD_SIZES: dict[str, Any] = {
    "heads": 3,
    "kv_heads": 1,
    "head_dim": 32,
    "intermediate": 40,
    "vocab": 37,
    "layers": 2,
}

UNK, BOS, EOS = 0, 1, 2
IM_START, IM_END = 259, 260  # after 256 byte tokens, as in `_SPECIALS`
_SPECIALS = {
    "<unk>": UNK,
    "<s>": BOS,
    "</s>": EOS,
    "<|im_start|>": IM_START,
    "<|im_end|>": IM_END,
    "<|action_start|>": 261,
    "<|action_end|>": 262,
    "<|interpreter|>": 263,
    "<|plugin|>": 264,
}
_CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_DTYPES: dict[str, npt.DTypeLike] = {
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "float32": np.float32,
}


def write_checkpoint(
    folder: Path,
    *,
    seed: int = 0,
    heads: int = 4,
    kv_heads: int = 2,
    head_dim: int = 64,
    hidden: int | None = None,
    layers: int = 2,
    intermediate: int = 192,
    vocab: int = 320,
    dtype: str = "float16",
    shards: int = 1,
    rope_scaling: Mapping[str, object] | None = None,
    max_position: int = 256,
    rope_theta: float = 10000.0,
    tied: bool = False,
    with_tokenizer: bool = False,
) -> Path:
    """Write config.json, generation_config.json and safetensors in InternLM2's layout; return `folder`.

    Matrices are normal with a spread of 1 / sqrt(fan_in) and norms lie around 1, so activations keep their size through
    the layers; the head is three times wider, so that logits are spread and a greedy choice is rarely a tie.
    With `hidden` other than heads * head_dim, config.json gives `head_dim`. `tied` leaves `output.weight` out.
    The weights depend on the seed and the sizes alone, before they are rounded to `dtype`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    width = hidden or heads * head_dim
    config: dict[str, object] = {
        "architectures": ["InternLM2ForCausalLM"],
        "bias": False,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "hidden_act": "silu",
        "hidden_size": width,
        "intermediate_size": intermediate,
        "max_position_embeddings": max_position,
        "model_type": "internlm2",
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "num_key_value_heads": kv_heads,
        "pad_token_id": EOS,
        "rms_norm_eps": 1e-05,
        "rope_scaling": rope_scaling,
        "rope_theta": rope_theta,
        "tie_word_embeddings": tied,
        "torch_dtype": dtype,
        "vocab_size": vocab,
    }
    if width != heads * head_dim:
        config["head_dim"] = head_dim
    write_json(folder / "config.json", config)
    stop_ids = [EOS, IM_END] if vocab > IM_END else [EOS]
    write_json(folder / "generation_config.json", {"bos_token_id": BOS, "eos_token_id": stop_ids, "pad_token_id": EOS})

    rng = np.random.default_rng(seed)

    def matrix(rows: int, columns: int, scale: float = 1.0) -> Array:
        values: Array = rng.standard_normal((rows, columns), dtype=np.float32) * (scale / np.sqrt(columns))
        return values.astype(_DTYPES[dtype])

    def norm() -> Array:
        return (1 + 0.1 * rng.standard_normal(width, dtype=np.float32)).astype(_DTYPES[dtype])

    tensors = {"model.tok_embeddings.weight": matrix(vocab, width, scale=width**0.5)}
    for layer in range(layers):
        prefix = f"model.layers.{layer}"
        tensors[f"{prefix}.attention_norm.weight"] = norm()
        tensors[f"{prefix}.attention.wqkv.weight"] = matrix((heads + 2 * kv_heads) * head_dim, width)
        tensors[f"{prefix}.attention.wo.weight"] = matrix(width, heads * head_dim)
        tensors[f"{prefix}.ffn_norm.weight"] = norm()
        tensors[f"{prefix}.feed_forward.w1.weight"] = matrix(intermediate, width)
        tensors[f"{prefix}.feed_forward.w3.weight"] = matrix(intermediate, width)
        tensors[f"{prefix}.feed_forward.w2.weight"] = matrix(width, intermediate)
    tensors["model.norm.weight"] = norm()
    if not tied:
        tensors["output.weight"] = matrix(vocab, width, scale=3.0)
    write_weights(folder, tensors, shards)
    if with_tokenizer:
        _write_tokenizer(folder)
    return folder


def write_weights(folder: Path, tensors: Mapping[str, Array], shards: int = 1) -> None:
    """Write tensors as model.safetensors, or dealt out in turn to `shards` files with an index."""
    if shards == 1:
        save_file(dict(tensors), folder / "model.safetensors")
        return
    names = [f"model-{shard + 1:05}-of-{shards:05}.safetensors" for shard in range(shards)]
    weight_map = {name: names[place % shards] for place, name in enumerate(tensors)}
    for file in names:
        save_file({name: tensors[name] for name in tensors if weight_map[name] == file}, folder / file)
    size = sum(tensor.nbytes for tensor in tensors.values())
    write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": weight_map})


def raw_weights(folder: Path) -> dict[str, Array]:
    """Every tensor of a folder under its own name and in its own dtype."""
    return {name: tensor for path in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(path).items()}


def canonical_weights(folder: Path) -> dict[str, npt.NDArray[np.float32]]:
    """The weights of a folder in float32 under Llama's names: the state dict of a `LlamaForCausalLM`."""
    config = json.loads((folder / "config.json").read_text())
    raw = {name: tensor.astype(np.float32) for name, tensor in raw_weights(folder).items()}
    embedding = raw["model.tok_embeddings.weight"]
    result = {
        "model.embed_tokens.weight": embedding,
        "model.norm.weight": raw["model.norm.weight"],
        "lm_head.weight": raw.get("output.weight", embedding),
    }
    renamed = {
        "attention_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
        "attention.wo": "self_attn.o_proj",
        "feed_forward.w1": "mlp.gate_proj",
        "feed_forward.w3": "mlp.up_proj",
        "feed_forward.w2": "mlp.down_proj",
    }
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        for old, new in renamed.items():
            result[f"{prefix}.{new}.weight"] = raw[f"{prefix}.{old}.weight"]
        fused = raw[f"{prefix}.attention.wqkv.weight"]
        for part, matrix in deal_wqkv(fused, config["num_attention_heads"], config["num_key_value_heads"]).items():
            result[f"{prefix}.self_attn.{part}_proj.weight"] = matrix
    return result


def deal_wqkv(fused: Array, heads: int, kv_heads: int) -> dict[str, Array]:
    """q, k and v of a fused projection, by dealing out its blocks of head_dim rows one after the other."""
    blocks = np.split(fused, heads + 2 * kv_heads)
    dealt: dict[str, list[Array]] = {"q": [], "k": [], "v": []}
    for _ in range(kv_heads):
        for part in ["q"] * (heads // kv_heads) + ["k", "v"]:
            dealt[part].append(blocks.pop(0))
    return {part: np.concatenate(matrices) for part, matrices in dealt.items()}


def write_json(path: Path, value: object) -> None:
    """Write a value as indented JSON."""
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")


def edit_config(folder: Path, **changes: object) -> None:
    """Change keys of a folder's config.json."""
    path = folder / "config.json"
    write_json(path, json.loads(path.read_text()) | changes)


def assert_one_sentence(error: Exception) -> None:
    """A message for users: one line, one full stop, not a dump."""
    text = str(error)
    assert text.endswith(".")
    assert "\n" not in text
    assert len(text) < 700


def _write_tokenizer(folder: Path) -> None:
    """A byte-level tokenizer without merges: every byte is one token, so any text goes through."""
    vocab = dict(_SPECIALS)
    for place, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet())):
        vocab[symbol] = 3 + place
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BOS)])
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in _SPECIALS])
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(
        folder / "tokenizer_config.json",
        {
            "add_bos_token": True,
            "add_eos_token": False,
            "added_tokens_decoder": {
                str(token): {
                    "content": text,
                    "lstrip": False,
                    "normalized": False,
                    "rstrip": False,
                    "single_word": False,
                    "special": True,
                }
                for text, token in _SPECIALS.items()
            },
            "bos_token": "<s>",
            "chat_template": _CHAT_TEMPLATE,
            "clean_up_tokenization_spaces": False,
            "eos_token": "</s>",
            "pad_token": "</s>",
            "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": "<unk>",
        },
    )


TINY_SIZES: dict[str, Any] = {"heads": 6, "kv_heads": 2, "intermediate": 200, "vocab": 333, "with_tokenizer": True}
"""Small and odd: 3 query heads on one KV head, and a vocabulary and an inner size that no register tile divides."""


GROUPED_SIZES: dict[str, dict[str, Any]] = {
    name: sizes | {"vocab": 331, "max_position": 384, "with_tokenizer": True}
    for name, sizes in {
        "1-per-kv": {"heads": 3, "kv_heads": 3, "head_dim": 64, "intermediate": 75, "layers": 1},
        "2-per-kv": {
            "heads": 4,
            "kv_heads": 2,
            "head_dim": 128,
            "intermediate": 200,
            "layers": 1,
            "dtype": "bfloat16",
        },
        "3-per-kv": {"heads": 6, "kv_heads": 2, "head_dim": 64, "hidden": 288, "intermediate": 232, "layers": 4},
        "4-per-kv": {"heads": 4, "kv_heads": 1, "head_dim": 128, "intermediate": 168, "layers": 4},
        "8-per-kv": {
            "heads": 8,
            "kv_heads": 1,
            "head_dim": 64,
            "intermediate": 360,
            "layers": 1,
            "dtype": "float32",
        },
    }.items()
}
"""Query heads per KV head, head_dim, layers, and intermediate sizes that no vector or tile divides."""


class CompileTiny(Protocol):
    """Makes a small random checkpoint and compiles it, once in a session for the same arguments."""

    def __call__(
        self,
        scheme: str,
        target: str = "host",
        *,
        lengths: tuple[int, int] = (128, 256),
        tp: int = 1,
        **checkpoint: Any,
    ) -> Path:
        """The artifact's folder; it is shared, so copy it before you damage it.

        `lengths` are the longest prompt and the longest sequence; `tp` ranks share the model, aligned if need be;
        `checkpoint` goes to `checkpoints.write_checkpoint`.
        """
