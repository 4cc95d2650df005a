"""The sizes of a small model for tests that need no weights; where they need other sizes, they replace some."""

from ilmari.model.config import ModelConfig

SMALL = ModelConfig(
    architecture="test",
    hidden_size=96,
    intermediate_size=100,
    num_hidden_layers=1,
    num_attention_heads=3,
    num_key_value_heads=1,
    head_dim=64,
    vocab_size=1003,
    max_position_embeddings=128,
    rms_norm_eps=1e-5,
    rope_theta=1e4,
    rope_scaling=None,
    bos_token_id=1,
    eos_token_id=2,
)
