"""The weights of all ranks together: each of the model's once, in places where they compute what the model computes."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st
from small_model import SMALL

from ilmari.checkpoint.checkpoint import LayerWeights
from ilmari.compile.quantized_layer import matrices
from ilmari.compile.shard import shard
from ilmari.kernels.isa import ISAS
from ilmari.kernels.plan import Plan
from ilmari.kernels.scheme import SCHEMES
from ilmari.quant.round_to_nearest import round_to_nearest
from ilmari.quant.weight import ScaledWeight

Float64 = npt.NDArray[np.float64]

HIDDEN, HEAD_DIM = 96, 32


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Models of any number of heads and ranks, on CPUs of every width."""
    kv_heads, q_per_kv = draw(st.integers(1, 5)), draw(st.sampled_from([1, 2, 3, 4, 5, 8]))
    model = replace(
        SMALL,
        num_attention_heads=kv_heads * q_per_kv,
        num_key_value_heads=kv_heads,
        head_dim=HEAD_DIM,
        intermediate_size=draw(st.integers(1, 300)),
    )
    return Plan(model, SCHEMES["w8a16"], draw(st.sampled_from(ISAS)), draw(st.integers(1, 16)))


def layer_of(plan: Plan, fill: Any) -> LayerWeights:
    """A layer of `fill(rows, columns)`."""
    config = plan.config
    q, kv, inner = config.q_size, config.kv_size, config.intermediate_size
    norm = np.ones(HIDDEN, np.float32)
    return LayerWeights(
        attention_norm=norm,
        q=fill(q, HIDDEN),
        k=fill(kv, HIDDEN),
        v=fill(kv, HIDDEN),
        o=fill(HIDDEN, q),
        ffn_norm=norm,
        gate=fill(inner, HIDDEN),
        up=fill(inner, HIDDEN),
        down=fill(HIDDEN, inner),
    )


def shards(plan: Plan, name: str, weight: ScaledWeight) -> list[ScaledWeight]:
    parts = [shard(plan, name, weight, rank) for rank in range(plan.tp)]
    shape = plan.linears[name]
    assert {(part.values.shape, part.scale.shape) for part in parts} == {((shape.n, shape.k), (shape.n,))}
    return parts


@given(plans())
@settings(deadline=None, max_examples=60)
def test_each_element_once(plan: Plan) -> None:
    """Elements are numbered from 1; what is no element is zero. Copies of a KV head are whole."""
    numbers = np.arange(1, 2**24, dtype=np.float32)
    taken = 0

    def numbered(rows: int, columns: int) -> npt.NDArray[np.float32]:
        nonlocal taken
        taken += rows * columns
        return numbers[taken - rows * columns : taken].reshape(rows, columns)

    layer = layer_of(plan, numbered)
    assert taken < len(numbers)
    found = {}
    for name, whole in matrices(layer, plan.whole).items():
        parts = shards(plan, name, ScaledWeight(whole, whole.max(axis=1)))
        if name in ("qkv", "gate_up"):
            assert all(np.array_equal(part.scale != 0, part.values.any(axis=1)) for part in parts)
        found[name] = np.concatenate([part.values[part.values != 0] for part in parts])
    for name, originals in (("o", [layer.o]), ("gate_up", [layer.gate, layer.up]), ("down", [layer.down])):
        np.testing.assert_array_equal(np.sort(found[name]), np.concatenate([each.reshape(-1) for each in originals]))
    ids, counts = np.unique(found["qkv"], return_counts=True)
    np.testing.assert_array_equal(ids, np.concatenate([each.reshape(-1) for each in (layer.q, layer.k, layer.v)]))
    assert (counts[: layer.q.size] == 1).all()
    per_head = counts[layer.q.size :].reshape(2, plan.config.num_key_value_heads, -1)
    assert (per_head == per_head[:1, :, :1]).all()
    if plan.sharding.even:
        assert (per_head == 1).all()


@given(plans(), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=40)
def test_quantized_weights_come_together_again(plan: Plan, seed: int) -> None:
    """The same integers and scales as those of the model quantized at once, by whichever rank has them."""
    rng = np.random.default_rng(seed)
    layer = layer_of(plan, lambda rows, columns: rng.standard_normal((rows, columns), np.float32))
    config, sharding = plan.config, plan.sharding
    for name, matrix in matrices(layer, plan.whole).items():
        whole = round_to_nearest(matrix)
        values, scale = np.zeros_like(whole.values), np.zeros_like(whole.scale)
        for rank, part in enumerate(shards(plan, name, whole)):
            q = blocks(sharding.q_heads(rank), 0)
            kv = sharding.kv_heads(rank)
            inner, pad = np.array(sharding.columns(rank), int), plan.whole.intermediate
            k, v = blocks(kv, config.q_size), blocks(kv, config.q_size + config.kv_size)
            filled = len(inner)
            if name == "qkv":
                rows = np.concatenate([q, k, v])
                values[rows[rows >= 0]] = part.values[: len(rows)][rows >= 0]
                scale[rows[rows >= 0]] = part.scale[: len(rows)][rows >= 0]
            elif name == "gate_up":
                for place, start in ((0, 0), (plan.intermediate, pad)):
                    values[start + inner] = part.values[place : place + filled]
                    scale[start + inner] = part.scale[place : place + filled]
            else:
                columns = q if name == "o" else inner
                values[:, columns[columns >= 0]] = part.values[:, : len(columns)][:, columns >= 0]
                np.testing.assert_array_equal(part.scale, whole.scale)  # of the whole channel, on every rank
                scale = part.scale
        np.testing.assert_array_equal(values, whole.values)
        np.testing.assert_array_equal(scale, whole.scale)


@given(plans(), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=40)
def test_parts_add_up(plan: Plan, seed: int) -> None:
    """A layer's two blocks in float64: what the ranks compute of the same input, each with its own heads and columns,
    sums up to what the layer computes."""
    rng = np.random.default_rng(seed)
    layer = layer_of(plan, lambda rows, columns: rng.standard_normal((rows, columns), np.float32) / 8)
    whole = {name: ScaledWeight(m, np.ones(len(m), np.float32)) for name, m in matrices(layer, plan.whole).items()}
    x = rng.standard_normal((4, HIDDEN))
    want = attention(x, layer.q, layer.k, layer.v, layer.o, plan.config.q_per_kv)
    want_inner = feed_forward(x, layer.gate, layer.up, layer.down)
    got, got_inner = np.zeros_like(want), np.zeros_like(want_inner)
    local, inner = plan.local, plan.intermediate
    for rank in range(plan.tp):
        qkv, o, gate_up, down = (shard(plan, name, whole[name], rank).values for name in whole)
        q, k, v, _ = np.split(qkv, np.cumsum([local.q_size, local.kv_size, local.kv_size]))
        got += attention(x, q, k, v, o, local.q_per_kv)
        got_inner += feed_forward(x, gate_up[:inner], gate_up[inner : 2 * inner], down)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-9 * np.abs(want).max())
    np.testing.assert_allclose(got_inner, want_inner, rtol=0, atol=1e-9 * np.abs(want_inner).max())


def blocks(heads: list[int | None], start: int) -> npt.NDArray[np.intp]:
    """The rows of heads, -1 for those of none."""
    return np.concatenate(
        [np.full(HEAD_DIM, -1) if head is None else start + head * HEAD_DIM + np.arange(HEAD_DIM) for head in heads]
    )


def attention(x: Float64, q: Any, k: Any, v: Any, o: Any, q_per_kv: int) -> Float64:
    """Without rotation or mask, which know nothing of ranks."""
    queries, keys, values = ((x @ w.T).reshape(len(x), -1, HEAD_DIM).swapaxes(0, 1) for w in (q, k, v))
    scores = queries @ keys.repeat(q_per_kv, axis=0).swapaxes(1, 2)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    mixed = (weights @ values.repeat(q_per_kv, axis=0)).swapaxes(0, 1).reshape(len(x), -1)
    result: Float64 = mixed @ o.T
    return result


def feed_forward(x: Float64, gate: Any, up: Any, down: Any) -> Float64:
    gated = x @ gate.T
    result: Float64 = (gated / (1 + np.exp(-gated)) * (x @ up.T)) @ down.T
    return result
