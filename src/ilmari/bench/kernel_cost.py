"""What one call of each kernel costs, by the kernel's role."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ilmari.artifact.params import tensor_bytes
from ilmari.bench.cost import FLOAT, LINEARS, WORD, Cost, Load
from ilmari.kernels.form import FORMS, GROUPS, Form
from ilmari.kernels.plan import Plan

FLOAT_BYTES = 4
HALF_BYTES = 2
INDEX_BYTES = 4


def kernel_cost(plan: Plan, name: str, load: Load) -> Cost | None:
    """The cost of one call of kernel `name` with `load`; None for a kernel that has no entry in `ROLES`.

    Bytes: what the call reads and writes, each array once, of the KV cache and of the embedding table only what it
    touches. An array that is still in a cache costs less, so a small call may exceed the read bandwidth. Multiply-adds:
    those of matrix products, padding included; the few operations per element of the other kernels are left out.
    """
    role = next((role for role in ROLES if name.startswith(role)), None)
    return ROLES[role](plan, name.removeprefix(role), load) if role else None


def _embedding(plan: Plan, _: str, load: Load) -> Cost:
    return Cost(load.rows * (INDEX_BYTES + plan.config.hidden_size * (HALF_BYTES + FLOAT_BYTES)))


def _norm(plan: Plan, form: str, load: Load) -> Cost:
    hidden = plan.config.hidden_size
    return Cost(load.rows * (hidden * FLOAT_BYTES + _input_bytes(FORMS[form], hidden)) + hidden * FLOAT_BYTES)


def _copy(plan: Plan, form: str, load: Load) -> Cost:
    columns = plan.local.q_size
    return Cost(load.rows * (columns * FLOAT_BYTES + _input_bytes(FORMS[form], columns)))


def _silu(plan: Plan, form: str, load: Load) -> Cost:
    columns = plan.intermediate
    return Cost(load.rows * (2 * columns * FLOAT_BYTES + _input_bytes(FORMS[form], columns)))


def _rope_append(plan: Plan, _: str, load: Load) -> Cost:
    config = plan.local
    read = config.q_size + 2 * config.kv_size + config.head_dim  # cosines and sines: half of the head each
    written = config.q_size * FLOAT_BYTES + _kv_bytes(plan)
    return Cost(load.rows * (read * FLOAT_BYTES + INDEX_BYTES + written))


def _attention(plan: Plan, kind: str, load: Load) -> Cost:
    config = plan.local
    queries_and_output = 2 * load.rows * config.q_size * FLOAT_BYTES
    cache = load.cached * _kv_bytes(plan)
    of_bytes = plan.scheme.kv_cache == "int8" and plan.isa.word_dot is not None
    words = plan.isa.fast_words if kind == "prefill" else of_bytes
    return Cost(queries_and_output + cache, 2 * config.q_size * load.visible, WORD if words else FLOAT)


def _kv_bytes(plan: Plan) -> int:
    """One token's keys and values in one layer."""
    return plan.kv_bytes_per_token // plan.config.num_hidden_layers


def _linear(plan: Plan, layer_and_form: str, load: Load) -> Cost:
    layer, _, form = layer_and_form.rpartition("_")
    shape = plan.linears[layer]
    weights = sum(map(tensor_bytes, plan.linear_tensors(layer)))
    outputs = shape.n * FLOAT_BYTES * (2 if shape.accumulate else 1)
    if (layer, form) == ("gate_up", GROUPS.name):  # what the next layer reads
        outputs = _input_bytes(GROUPS, plan.intermediate)
    moved = weights + load.rows * (_input_bytes(FORMS[form], shape.k) + outputs)
    return Cost(moved, load.rows * shape.n * shape.k, LINEARS[FORMS[form]])


def _input_bytes(form: Form, k: int) -> int:
    """One row of a linear layer's input."""
    return sum(part.columns(k) * np.dtype(part.dtype).itemsize for part in form.parts)


def _tokens(bytes_each: int) -> Callable[[Plan, str, Load], Cost]:
    """A pass over one row's tokens: at the least, as `cut_bounds` makes several."""
    return lambda plan, _name, _load: Cost(plan.config.vocab_size * bytes_each)


ROLES: dict[str, Callable[[Plan, str, Load], Cost]] = {
    "embedding": _embedding,
    "norm_": _norm,
    "copy_": _copy,
    "silu_": _silu,
    "rope_append": _rope_append,
    "attention_": _attention,
    "linear_": _linear,
    "logit_": _tokens(2 * FLOAT_BYTES),
    "cut_bounds": _tokens(2 * FLOAT_BYTES),
    "kept_weights": _tokens(2 * FLOAT_BYTES),
}
"""How a kernel's name begins, and the cost of one call."""
