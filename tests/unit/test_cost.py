"""Parameters, multiply-adds and cache bytes of models whose published sizes are known."""

import math

import pytest

from ilmari.checkpoint.names import INTERNLM2
from ilmari.kernels.isa import ISAS
from ilmari.kernels.plan import Plan
from ilmari.kernels.scheme import SCHEMES
from ilmari.model.config import ModelConfig
from ilmari.model.cost import macs_per_token, parameters


def model(
    hidden: int, intermediate: int, layers: int, heads: int, kv_heads: int = 8, vocab: int = 92544
) -> ModelConfig:
    return ModelConfig(
        architecture="InternLM2ForCausalLM",
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=128,
        vocab_size=vocab,
        max_position_embeddings=32768,
        rms_norm_eps=1e-5,
        rope_theta=1e6,
        rope_scaling=None,
        bos_token_id=1,
        eos_token_id=2,
    )


RELEASES = {
    "1_8b": (model(2048, 8192, 24, 16), 1_889_110_016),
    "7b": (model(4096, 14336, 32, 32), 7_737_708_544),
    "20b": (model(6144, 16384, 48, 48), 19_861_149_696),
}
# 3 query heads on 1 KV head, heads narrower together than the hidden size
ODD = model(512, 176, 3, 3, kv_heads=1, vocab=77)


@pytest.mark.parametrize(("config", "published"), RELEASES.values(), ids=RELEASES)
def test_parameters_are_the_published_ones(config: ModelConfig, published: int) -> None:
    assert parameters(config) == published


@pytest.mark.parametrize("config", [ODD, *(config for config, _ in RELEASES.values())])
def test_parameters_are_the_sum_over_the_weight_table(config: ModelConfig) -> None:
    total = sum(
        math.prod(row.shape(config)) * len(list(row.all_in_file(config))) for row in INTERNLM2.values() if row.used
    )
    assert parameters(config) == total


def test_multiply_adds_are_one_per_matrix_element_but_the_embedding() -> None:
    matrices = [row for row in INTERNLM2.values() if len(row.shape(ODD)) == 2 and row.canonical != "embedding"]
    linear = sum(math.prod(row.shape(ODD)) * len(list(row.all_in_file(ODD))) for row in matrices)
    assert macs_per_token(ODD) == linear


def test_attention_costs_two_products_per_head_layer_and_context_token() -> None:
    assert macs_per_token(ODD, context=11) - macs_per_token(ODD) == 11 * 3 * 3 * (128 + 128)


def test_cache_bytes() -> None:
    # 2 (k and v) * 32 layers * 8 KV heads * 128 elements * 2 bytes
    model = RELEASES["7b"][0]
    assert Plan(model, SCHEMES["fp16"], ISAS[0]).kv_bytes_per_token == 131_072
    # in int8, and a scale of 4 bytes for each key and each value
    assert Plan(model, SCHEMES["w16kv8"], ISAS[0]).kv_bytes_per_token == 2 * 32 * 8 * (128 + 4)
