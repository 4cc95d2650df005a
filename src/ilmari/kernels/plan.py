"""The shapes of a compiled model: what the packer writes, the compiler specialises for and the runner reads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from ilmari.kernels.form import BFLOAT16, FLOAT32, GROUPS, HALVES, LONGEST_RUN, PAIRS, WORDS, Form
from ilmari.kernels.isa import Isa
from ilmari.kernels.kv_layout import token_bytes
from ilmari.kernels.scheme import Scheme
from ilmari.kernels.sharding import Sharding
from ilmari.model.config import ModelConfig

PADDING = LONGEST_RUN
"""Feature sizes are padded with zeros to a multiple of this: whole vectors on every CPU, tensors of whole 64 bytes."""

INTEGER_FORMS: dict[int, tuple[tuple[int, Form], ...]] = {
    16: ((1, HALVES), (24, PAIRS)),
    8: ((1, GROUPS),),
}
"""By bits of an activation: forms, each with the rows of a step from which on its kernels are the faster ones."""

FLOAT_FORMS: tuple[tuple[int, Form], ...] = ((1, FLOAT32), (32, BFLOAT16))
"""The same for float weights; the second where the CPU has bfloat16 dot products."""


@dataclass(frozen=True)
class LinearShape:
    """One matrix product: n output channels (padded to whole register tiles), k inputs (padded to `PADDING`).

    block: channels that one register tile computes. run: where weights are bytes for dot products, the inputs whose
    bytes change places (see `form`), else 1. k_step: inputs of one channel that lie side by side.
    """

    name: str
    n: int
    k: int
    block: int
    run: int
    k_step: int
    accumulate: bool

    @property
    def packed(self) -> tuple[int, int, int]:
        """Shape of the packed weight: [n/block, k/k_step, block*k_step]."""
        return self.n // self.block, self.k // self.k_step, self.block * self.k_step


@dataclass(frozen=True)
class TensorShape:
    """One tensor of the parameter file; dtype is NumPy's name, or bfloat16 (see `scheme.storage`)."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Plan:
    """A model, a precision, an instruction set, and every shape that follows from them on each of `tp` ranks."""

    config: ModelConfig
    scheme: Scheme
    isa: Isa
    tp: int = 1

    @cached_property
    def sharding(self) -> Sharding:
        """What each rank has of the model."""
        return Sharding(self.config, self.tp)

    @property
    def local(self) -> ModelConfig:
        """One rank's part of the model."""
        return self.sharding.local

    @property
    def whole(self) -> Plan:
        """The same for one rank that has all of the model."""
        return replace(self, tp=1)

    @property
    def byte_dot(self) -> bool:
        """Whether linear layers multiply integer activations by bytes, rather than float32 ones."""
        return self.scheme.weights == "int8" and (self.isa.byte_dot or self.isa.word_dot) is not None

    @property
    def bf16_dot(self) -> bool:
        """Whether linear layers have a second kernel, for many rows, that multiplies bfloat16 activations."""
        return self.scheme.weights != "int8" and self.isa.bf16_dot

    @property
    def forms(self) -> tuple[tuple[int, Form], ...]:
        """Forms of the linear layers' inputs, each with the rows of a step from which on it is used, ascending."""
        if self.byte_dot:
            if self.isa.byte_dot is None:
                return ((1, WORDS),)
            forms = INTEGER_FORMS[self.scheme.activation_bits]
            return forms if self.isa.word_dot else forms[:1]
        return FLOAT_FORMS[: 1 + self.bf16_dot]

    def form(self, rows: int) -> Form:
        """The form for a step of `rows` rows."""
        return next(form for least, form in reversed(self.forms) if rows >= least)

    @property
    def activation(self) -> str:
        """Precision of the linear layers' inputs, for people."""
        descriptions = dict.fromkeys(form.description for _, form in self.forms)
        return ", in long steps ".join(descriptions)

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of KV cache that one token takes on a rank in all layers, scales included."""
        config = self.local
        keys_and_values = 2 * config.num_hidden_layers * config.num_key_value_heads
        return keys_and_values * token_bytes(self.scheme.kv_cache, config.head_dim)

    @property
    def intermediate(self) -> int:
        """Columns of the gate (and of the up) projection, padded to whole register tiles."""
        return padded(self.local.intermediate_size, max(self.isa.lanes * self.isa.vectors, PADDING))

    @cached_property
    def linears(self) -> dict[str, LinearShape]:
        """By name: qkv, o, gate_up and down of each layer, and the head."""
        config = self.local
        table = (
            ("qkv", config.q_size + 2 * config.kv_size, config.hidden_size, False),
            ("o", config.hidden_size, config.q_size, True),
            ("gate_up", 2 * self.intermediate, config.hidden_size, False),
            ("down", config.hidden_size, self.intermediate, True),
            ("head", config.vocab_size, config.hidden_size, False),
        )
        return {name: self._linear(name, n, k, accumulate) for name, n, k, accumulate in table}

    def _linear(self, name: str, n: int, k: int, accumulate: bool) -> LinearShape:
        lanes, vectors = self.isa.lanes, self.isa.vectors
        if accumulate:
            # A residual is added in place, so its width stays the hidden size: the widest tile that divides it.
            while n % (lanes * vectors):
                vectors //= 2
        width = n if accumulate else padded(n, max(lanes * vectors, PADDING))
        run, k_step = (2 * lanes, self.isa.dot_step) if self.byte_dot else (1, 1)
        return LinearShape(name, width, k, lanes * vectors, run, k_step, accumulate)

    @cached_property
    def tensors(self) -> tuple[TensorShape, ...]:
        """Everything in a rank's parameter file, in the file's order."""
        config = self.local
        hidden = config.hidden_size
        layers = (
            tensor
            for index in range(config.num_hidden_layers)
            for tensor in (
                TensorShape(f"layers.{index}.attention_norm", (hidden,), "float32"),
                *self.linear_tensors("qkv", f"layers.{index}."),
                *self.linear_tensors("o", f"layers.{index}."),
                TensorShape(f"layers.{index}.ffn_norm", (hidden,), "float32"),
                *self.linear_tensors("gate_up", f"layers.{index}."),
                *self.linear_tensors("down", f"layers.{index}."),
            )
        )
        return (
            TensorShape("embedding", (config.vocab_size, hidden), self.scheme.embedding),
            *layers,
            TensorShape("norm", (hidden,), "float32"),
            *self.linear_tensors("head"),
        )

    def linear_tensors(self, name: str, prefix: str = "") -> tuple[TensorShape, TensorShape]:
        """Weight of a linear layer and its scale per channel. Bytes have `Isa.byte_offset` added."""
        shape = self.linears[name]
        return (
            TensorShape(f"{prefix}{name}.weight", shape.packed, "uint8" if self.byte_dot else self.scheme.weights),
            TensorShape(f"{prefix}{name}.scale", (shape.n,), "float32"),
        )


def padded(size: int, multiple: int) -> int:
    """`size` rounded up to a multiple."""
    return -(-size // multiple) * multiple
