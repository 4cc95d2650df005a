"""What a model costs: parameters, multiply-adds, bytes of KV cache.

All counts are of the model as published: biases and tied embeddings do not occur in InternLM2.
"""

from ilmari.model.config import ModelConfig


def _layer_matrices(config: ModelConfig) -> int:
    """Elements of the matrices of one layer: q, k, v, o, gate, up, down."""
    attention = 2 * config.hidden_size * (config.q_size + config.kv_size)
    return attention + 3 * config.hidden_size * config.intermediate_size


def parameters(config: ModelConfig) -> int:
    """Parameters of the model: embedding and head (counted separately), layers with two norms each, final norm."""
    layer = _layer_matrices(config) + 2 * config.hidden_size
    return 2 * config.vocab_size * config.hidden_size + config.num_hidden_layers * layer + config.hidden_size


def macs_per_token(config: ModelConfig, context: int = 0) -> int:
    """Multiply-adds of one token that attends to `context` cached tokens, the output head included.

    Linear layers take one per matrix element; attention takes `2 * q_size` per layer and token of context (once for
    q·k, once for the weighted sum of v). Norms, rotary embedding, softmax and the embedding look-up are left out.
    """
    linear = config.num_hidden_layers * _layer_matrices(config) + config.vocab_size * config.hidden_size
    return linear + config.num_hidden_layers * 2 * config.q_size * context


def kv_bytes_per_token(config: ModelConfig, itemsize: int = 2) -> int:
    """Bytes of KV cache that one token takes in all layers; `itemsize` is bytes per element (2 for fp16)."""
    return 2 * config.num_hidden_layers * config.kv_size * itemsize
