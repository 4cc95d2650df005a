"""The model that every engine gets: internlm2-chat-1_8b's shape as a Llama, with random weights.

A Llama of this shape costs what the InternLM2 costs: only the names of the weights and their order in memory differ.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.random_checkpoint import CONFIG, HIDDEN, INTER, VOCAB

LAYERS, HEADS, KV_HEADS = (CONFIG[f"num_{name}"] for name in ("hidden_layers", "attention_heads", "key_value_heads"))
KV_SIZE = HIDDEN // HEADS * KV_HEADS


@dataclass(frozen=True)
class Weight:
    """One tensor: its name in a Hugging Face folder, its name in a GGUF file, and its shape (outputs, inputs)."""

    hugging_face: str
    gguf: str
    shape: tuple[int, ...]

    def values(self, rng: np.random.Generator) -> np.ndarray:
        """Float32 ones for a norm; float16 of deviation 1/sqrt(inputs) for a matrix, so that activations stay small."""
        if len(self.shape) == 1:
            return np.ones(self.shape, np.float32)
        scale = np.float32(self.shape[1] ** -0.5)
        return (rng.standard_normal(self.shape, np.float32) * scale).astype(np.float16)


ENDS = (
    Weight("model.embed_tokens", "token_embd", (VOCAB, HIDDEN)),
    Weight("model.norm", "output_norm", (HIDDEN,)),
    Weight("lm_head", "output", (VOCAB, HIDDEN)),
)
LAYER = (
    Weight("input_layernorm", "attn_norm", (HIDDEN,)),
    Weight("self_attn.q_proj", "attn_q", (HIDDEN, HIDDEN)),
    Weight("self_attn.k_proj", "attn_k", (KV_SIZE, HIDDEN)),
    Weight("self_attn.v_proj", "attn_v", (KV_SIZE, HIDDEN)),
    Weight("self_attn.o_proj", "attn_output", (HIDDEN, HIDDEN)),
    Weight("post_attention_layernorm", "ffn_norm", (HIDDEN,)),
    Weight("mlp.gate_proj", "ffn_gate", (INTER, HIDDEN)),
    Weight("mlp.up_proj", "ffn_up", (INTER, HIDDEN)),
    Weight("mlp.down_proj", "ffn_down", (HIDDEN, INTER)),
)


def parts() -> Iterator[list[Weight]]:
    """Every weight of the model: those outside the layers, then those of each layer."""
    yield list(ENDS)
    for layer in range(LAYERS):
        yield [
            Weight(f"model.layers.{layer}.{weight.hugging_face}", f"blk.{layer}.{weight.gguf}", weight.shape)
            for weight in LAYER
        ]


def _elements(weights: Iterable[Weight]) -> int:
    return sum(math.prod(weight.shape) for weight in weights if len(weight.shape) == 2)


LAYER_MACS = LAYERS * _elements(LAYER)
"""Multiply-adds of a token in the linear layers: all that a token of a prompt needs, the last one aside."""
HEAD_MACS = VOCAB * HIDDEN
KV_BYTES = 2 * LAYERS * KV_SIZE * 2
"""Bytes of cached keys and values for each token of context, in float16."""
