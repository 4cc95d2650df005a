"""Which rank has what: every head, column and token once, and query heads beside their KV head."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_model import SMALL

from ilmari.kernels.form import GROUP
from ilmari.kernels.sharding import Sharding
from ilmari.model.config import ModelConfig

RANKS = range(1, 17)


def config(kv_heads: int, q_per_kv: int, intermediate: int = 100, vocab: int = 1003) -> ModelConfig:
    return replace(
        SMALL,
        num_attention_heads=kv_heads * q_per_kv,
        num_key_value_heads=kv_heads,
        intermediate_size=intermediate,
        vocab_size=vocab,
    )


configs = st.builds(config, st.integers(1, 10), st.integers(1, 8), st.integers(1, 2000), st.integers(1, 2000))


@given(configs, st.sampled_from(RANKS))
def test_heads(model: ModelConfig, ranks: int) -> None:
    """Each query head is once somewhere, beside its KV head; places and heads are as many on each rank."""
    sharding = Sharding(model, ranks)
    local = sharding.local
    seen = []
    for rank in range(ranks):
        kv_heads, q_heads = sharding.kv_heads(rank), sharding.q_heads(rank)
        assert (len(kv_heads), len(q_heads)) == (local.num_key_value_heads, local.num_attention_heads)
        for place, q_head in enumerate(q_heads):
            if q_head is not None:
                assert kv_heads[place // local.q_per_kv] == q_head // model.q_per_kv
                seen.append(q_head)
    assert sorted(seen) == list(range(model.num_attention_heads))


@given(configs, st.sampled_from(RANKS))
def test_heads_that_divide_are_neither_copied_nor_padded(model: ModelConfig, ranks: int) -> None:
    sharding = Sharding(model, ranks)
    kv_heads = [head for rank in range(ranks) for head in sharding.kv_heads(rank)]
    assert sharding.even == (model.num_key_value_heads % ranks == 0)
    if sharding.even:
        assert kv_heads == list(range(model.num_key_value_heads))


@given(configs, st.sampled_from(RANKS))
def test_columns_and_tokens(model: ModelConfig, ranks: int) -> None:
    """One after the other; columns are split between groups of inputs that share a scale."""
    sharding = Sharding(model, ranks)
    for size, local, parts in (
        (model.intermediate_size, sharding.local.intermediate_size, [sharding.columns(r) for r in range(ranks)]),
        (model.vocab_size, sharding.local.vocab_size, [sharding.tokens(r) for r in range(ranks)]),
    ):
        assert [index for part in parts for index in part] == list(range(size))
        assert all(len(part) <= local for part in parts)
    assert all(sharding.columns(rank).start % GROUP == 0 for rank in range(ranks) if sharding.columns(rank))


# Query and KV heads, and how many of each a rank has: those of the real models and of the demo's.
PARTS = {
    (16, 8): {1: (16, 8), 2: (8, 4), 4: (4, 2), 8: (2, 1), 16: (1, 1), 3: (6, 3)},
    (32, 8): {1: (32, 8), 2: (16, 4), 4: (8, 2), 8: (4, 1), 16: (2, 1), 6: (6, 3)},
    (48, 8): {1: (48, 8), 2: (24, 4), 4: (12, 2), 8: (6, 1), 16: (3, 1), 12: (4, 2)},
    (9, 3): {1: (9, 3), 2: (6, 2), 3: (3, 1), 4: (3, 1), 8: (2, 1), 16: (1, 1)},
}


@pytest.mark.parametrize(("heads", "parts"), PARTS.items(), ids=str)
def test_parts_of_real_models(heads: tuple[int, int], parts: dict[int, tuple[int, int]]) -> None:
    model = config(heads[1], heads[0] // heads[1])
    for ranks, part in parts.items():
        local = Sharding(model, ranks).local
        assert (local.num_attention_heads, local.num_key_value_heads) == part


@given(configs, st.sampled_from(RANKS))
def test_nothing_is_wasted_that_another_split_would_save(model: ModelConfig, ranks: int) -> None:
    """No room for query heads beside a KV head makes the matrices of a rank's attention smaller."""
    local = Sharding(model, ranks).local
    columns = []
    for room in range(1, model.q_per_kv + 1):
        copies = (model.q_per_kv + room - 1) // room
        places = (model.num_key_value_heads * copies + ranks - 1) // ranks
        columns.append(2 * places * room + 2 * places)
    assert 2 * (local.num_attention_heads + local.num_key_value_heads) == min(columns)
