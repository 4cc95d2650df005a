"""Writes a random-weight InternLM2 checkpoint of a real model's shape.

    python benchmarks/random_checkpoint.py DIR [--tokenizer FOLDER]

The shape is internlm2-chat-1_8b's. Weights are normal with deviation 1/sqrt(inputs), so activations stay in range and
nothing is easier to compute than in a trained model. Without --tokenizer a byte-level one is written.
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

CONFIG = {
    "architectures": ["InternLM2ForCausalLM"],
    "model_type": "internlm2",
    "bias": False,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "vocab_size": 92544,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-05,
    "rope_theta": 1000000,
    "rope_scaling": {"type": "dynamic", "factor": 2.0},
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
}
HIDDEN, INTER, VOCAB = CONFIG["hidden_size"], CONFIG["intermediate_size"], CONFIG["vocab_size"]
LAYER_SHAPES = {
    "attention.wqkv": (4096, HIDDEN),
    "attention.wo": (HIDDEN, HIDDEN),
    "feed_forward.w1": (INTER, HIDDEN),
    "feed_forward.w3": (INTER, HIDDEN),
    "feed_forward.w2": (HIDDEN, INTER),
}
TOKENIZER_FILES = ("tokenizer.model", "tokenizer_config.json")


def write(folder: Path, tokenizer: Path | None = None) -> None:
    """Write the checkpoint: one shard for each layer, one for the rest."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)

    def normal(shape: tuple[int, int]) -> np.ndarray:
        return (rng.standard_normal(shape, np.float32) / np.sqrt(shape[1])).astype(np.float16)

    index = {}
    shards = CONFIG["num_hidden_layers"] + 1
    for shard in range(shards):
        if shard == 0:
            tensors = {
                "model.tok_embeddings.weight": normal((VOCAB, HIDDEN)),
                "output.weight": normal((VOCAB, HIDDEN)),
                "model.norm.weight": np.ones(HIDDEN, np.float16),
            }
        else:
            prefix = f"model.layers.{shard - 1}."
            tensors = {f"{prefix}{name}.weight": normal(shape) for name, shape in LAYER_SHAPES.items()}
            tensors |= {
                f"{prefix}{name}.weight": np.ones(HIDDEN, np.float16) for name in ("attention_norm", "ffn_norm")
            }
        name = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        save_file(tensors, folder / name)
        index |= dict.fromkeys(tensors, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 92542]}))
    if tokenizer is None:
        _write_byte_tokenizer(folder)
    else:
        for name in TOKENIZER_FILES:
            shutil.copyfile(tokenizer / name, folder / name)


def _write_byte_tokenizer(folder: Path) -> None:
    texts = ["<unk>", "<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    backend = Tokenizer(models.BPE({text: i for i, text in enumerate(texts)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(texts[:3])
    backend.save(str(folder / "tokenizer.json"))
    settings = {"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tokenizer", type=Path)
    arguments = parser.parse_args()
    write(arguments.folder, arguments.tokenizer)
