"""The numbers that define a model."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DynamicNtk:
    """Rotary scaling of `rope_scaling: {"type": "dynamic", "factor": ...}`."""

    factor: float


@dataclass(frozen=True)
class ModelConfig:
    """One decoder-only transformer of the InternLM family.

    `head_dim` is in elements; `rope_theta` is the rotary base; `rope_scaling` is None for plain RoPE.
    """

    architecture: str
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope_theta: float
    rope_scaling: DynamicNtk | None
    bos_token_id: int
    eos_token_id: int

    @property
    def q_size(self) -> int:
        """Columns of the query projection: heads times head_dim."""
        return self.num_attention_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Columns of the key (or the value) projection."""
        return self.num_key_value_heads * self.head_dim

    @property
    def q_per_kv(self) -> int:
        """Query heads that share one KV head."""
        return self.num_attention_heads // self.num_key_value_heads
