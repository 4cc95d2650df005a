"""What one call of each kernel costs, by the kernel's role."""

from __future__ import annotations

from collections.abc import Callable

from ilmari.artifact.params import tensor_bytes
from ilmari.bench.cost import FLOAT, Cost, Load, linear_arithmetic
from ilmari.kernels.plan import LinearShape, Plan

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


def _rmsnorm(plan: Plan, _: str, load: Load) -> Cost:
    return Cost((2 * load.rows + 1) * plan.config.hidden_size * FLOAT_BYTES)


def _quantize(plan: Plan, suffix: str, load: Load) -> Cost:
    k = int(suffix.partition("_")[0])
    return Cost(load.rows * (k * FLOAT_BYTES + _input_bytes(plan, k)))


def _rope_append(plan: Plan, _: str, load: Load) -> Cost:
    config = plan.config
    read = config.q_size + 2 * config.kv_size + config.head_dim  # cosines and sines: half of the head each
    written = config.q_size * FLOAT_BYTES + 2 * config.kv_size * HALF_BYTES
    return Cost(load.rows * (read * FLOAT_BYTES + INDEX_BYTES + written))


def _attention(plan: Plan, _: str, load: Load) -> Cost:
    config = plan.config
    queries_and_output = 2 * load.rows * config.q_size * FLOAT_BYTES
    cache = load.cached * 2 * config.kv_size * HALF_BYTES
    return Cost(queries_and_output + cache, 2 * config.q_size * load.visible, FLOAT)


def _silu_multiply(plan: Plan, _: str, load: Load) -> Cost:
    return Cost(3 * load.rows * plan.intermediate * FLOAT_BYTES)


def _linear(plan: Plan, suffix: str, load: Load) -> Cost:
    shape = linear_of(plan, suffix)
    weights = sum(map(tensor_bytes, plan.linear_tensors(shape.name)))
    outputs = shape.n * FLOAT_BYTES * (2 if shape.accumulate else 1)
    moved = weights + load.rows * (_input_bytes(plan, shape.k) + outputs)
    return Cost(moved, load.rows * shape.n * shape.k, linear_arithmetic(plan))


def linear_of(plan: Plan, suffix: str) -> LinearShape:
    """The layer that a kernel linear_<suffix> multiplies by: <suffix> is its name, or its name, _ and a variant's."""
    return next(shape for name, shape in plan.linears.items() if f"{suffix}_".startswith(f"{name}_"))


def _input_bytes(plan: Plan, k: int) -> int:
    """One row of a linear layer's input: two bytes a number and a scale where it is quantized, else float32."""
    return 2 * k + FLOAT_BYTES if plan.byte_dot else k * FLOAT_BYTES


ROLES: dict[str, Callable[[Plan, str, Load], Cost]] = {
    "embedding": _embedding,
    "rmsnorm": _rmsnorm,
    "quantize_": _quantize,
    "rope_append": _rope_append,
    "attention_": _attention,
    "silu_multiply": _silu_multiply,
    "linear_": _linear,
}
"""How a kernel's name begins, and the cost of one call."""
