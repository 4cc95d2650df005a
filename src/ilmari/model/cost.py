"""What a model costs: parameters and multiply-adds.

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


def linear_macs(config: ModelConfig, tokens: int, outputs: int) -> int:
    """Multiply-adds of the linear layers in one step of `tokens` tokens, `outputs` of which get logits.

    The last layer's keys and values are needed of every token; its queries with them, as they are one matrix product.
    What follows them in that layer, and the output head, is needed only of tokens that get logits.
    """
    layer = _layer_matrices(config)
    qkv = config.hidden_size * (config.q_size + 2 * config.kv_size)
    per_output = layer - qkv + config.vocab_size * config.hidden_size
    return tokens * ((config.num_hidden_layers - 1) * layer + qkv) + outputs * per_output
