"""What steps and kernels cost, against numbers worked out by hand for a small odd model."""

from dataclasses import replace

import pytest
from small_model import SMALL

from ilmari.bench.ceilings import Rates
from ilmari.bench.cost import Arithmetic, Cost, Load, Span, step_cost
from ilmari.bench.kernel_cost import ROLES, kernel_cost
from ilmari.kernels.compiler import kernels
from ilmari.kernels.isa import ISAS, Isa, isa_named
from ilmari.kernels.plan import Plan
from ilmari.kernels.scheme import SCHEMES
from ilmari.model.cost import linear_macs, macs_per_token

CONFIG = replace(SMALL, num_hidden_layers=3, head_dim=32, vocab_size=37)
# of one layer: q, k and v; o; gate, up and down
QKV, OUT, MLP, HEAD = 96 * (96 + 2 * 32), 96 * 96, 3 * 96 * 100, 37 * 96
BYTE_DOT = Plan(CONFIG, SCHEMES["w8a16"], isa_named("avx512-vnni"))
FLOAT = Plan(CONFIG, SCHEMES["fp16"], isa_named("avx2"))

# 5 rows of a prompt of which 2 were cached, 1 row of a reply with 9 cached before; 3 rows of a prompt that goes on
LOAD = Load((Span(5, 7, 1), Span(1, 10, 1), Span(3, 3, 0)))

RATES = Rates(read_gb_s=50.0, gmac_s={"int8": 400.0, "int16": 200.0, "bf16": 200.0, "fp32": 100.0})


def test_linear_multiply_adds_of_the_last_layer_are_those_of_outputs() -> None:
    assert linear_macs(CONFIG, 9, 2) == 9 * (2 * (QKV + OUT + MLP) + QKV) + 2 * (OUT + MLP + HEAD)


def test_linear_multiply_adds_where_every_token_is_wanted() -> None:
    assert linear_macs(CONFIG, 4, 4) == 4 * macs_per_token(CONFIG)


def test_load() -> None:
    assert (LOAD.rows, LOAD.outputs) == (9, 2)
    assert LOAD.cached == 7 + 10 + 3
    assert LOAD.visible == (3 + 4 + 5 + 6 + 7) + 10 + (1 + 2 + 3)
    assert LOAD.of_outputs() == Load((Span(1, 7, 1), Span(1, 10, 1)))
    assert LOAD.of_outputs().visible == 7 + 10


@pytest.mark.parametrize(("plan", "itemsize", "arithmetic"), [(BYTE_DOT, 1, ("int8", 2)), (FLOAT, 2, ("fp32", 1))])
def test_step(plan: Plan, itemsize: int, arithmetic: tuple[str, int]) -> None:
    # Padded by hand: to whole register tiles of 64 (AVX512), or runs of 32 channels (AVX2), 100 inputs to 128.
    if plan is BYTE_DOT:
        channels = {"qkv": 192, "o": 96, "gate_up": 256, "down": 96, "head": 64}
    else:
        channels = {"qkv": 160, "o": 96, "gate_up": 256, "down": 96, "head": 64}
    inputs = {"qkv": 96, "o": 96, "gate_up": 96, "down": 128, "head": 96}
    size = {name: n * (inputs[name] * itemsize + 4) for name, n in channels.items()}
    head = size.pop("head")
    layers = 3 * (sum(size.values()) + 2 * 96 * 4)
    cost = step_cost(plan, LOAD)
    assert cost.bytes == layers + 96 * 4 + head + 20 * (3 * 2 * 32 * 2)
    assert cost.macs == linear_macs(CONFIG, 9, 2)
    assert cost.arithmetic == Arithmetic(*arithmetic)


def kernel(plan: Plan, name: str) -> tuple[float, float]:
    cost = kernel_cost(plan, name, LOAD)
    assert cost is not None
    return cost.bytes, cost.macs


def test_kernels_of_one_row_each_element() -> None:
    assert kernel(FLOAT, "embedding") == (9 * (4 + 96 * 2 + 96 * 4), 0)
    assert kernel(FLOAT, "norm_float32") == (9 * 96 * 8 + 96 * 4, 0)
    assert kernel(FLOAT, "silu_float32") == (9 * 128 * 12, 0)
    # 16-bit integers, a correction and a scale
    assert kernel(BYTE_DOT, "copy_halves") == (9 * (96 * 4 + 96 * 2 + 2 * 4), 0)
    assert kernel(BYTE_DOT, "silu_halves") == (9 * (256 * 4 + 128 * 2 + 2 * 4), 0)
    # read: q, k, v, 16 cosines, 16 sines and a slot; written: q in float32, k and v in float16
    assert kernel(FLOAT, "rope_append") == (9 * ((96 + 64 + 32) * 4 + 4 + 96 * 4 + 64 * 2), 0)


def test_int8_cache() -> None:
    """A byte for each number, and four for the scale of each key and of each value."""
    quantized = Plan(CONFIG, SCHEMES["w16kv8"], isa_named("avx2"))
    assert step_cost(FLOAT, LOAD).bytes - step_cost(quantized, LOAD).bytes == 20 * 3 * 2 * (2 * 32 - (32 + 4))
    assert kernel(quantized, "rope_append") == (9 * ((96 + 64 + 32) * 4 + 4 + 96 * 4 + 2 * 36), 0)
    assert kernel(quantized, "attention_decode")[0] == 9 * 2 * 96 * 4 + 20 * 2 * 36


def test_attention() -> None:
    # queries in and results out, 20 cached keys and values in float16; two products per head element and pair
    assert kernel(FLOAT, "attention_prefill") == (9 * 2 * 96 * 4 + 20 * 2 * 32 * 2, 2 * 96 * LOAD.visible)
    assert kernel(BYTE_DOT, "attention_decode") == kernel(FLOAT, "attention_prefill")


@pytest.mark.parametrize(
    ("isa", "kv_cache", "prefill", "decode"),
    [
        ("avx512-amd", "float16", "int16", "fp32"),
        ("avx-vnni", "int8", "int16", "int16"),
        ("avx2", "int8", "fp32", "int16"),
        ("neon-i8mm", "int8", "fp32", "fp32"),
    ],
)
def test_what_attention_multiplies_with(isa: str, kv_cache: str, prefill: str, decode: str) -> None:
    plan = Plan(CONFIG, SCHEMES["w8a8_kv8" if kv_cache == "int8" else "w8a8"], isa_named(isa))
    for name, instruction in (("attention_prefill", prefill), ("attention_decode", decode)):
        cost = kernel_cost(plan, name, LOAD)
        assert cost is not None
        assert cost.arithmetic == Arithmetic(instruction, 1)


def test_linears() -> None:
    assert kernel(FLOAT, "linear_o_float32") == (96 * 96 * 2 + 96 * 4 + 9 * (96 * 4 + 2 * 96 * 4), 9 * 96 * 96)
    weights = 256 * 96 + 256 * 4
    assert kernel(BYTE_DOT, "linear_gate_up_halves") == (weights + 9 * (96 * 2 + 8 + 256 * 4), 9 * 256 * 96)
    # bytes, and a correction and a scale for each 64 of them: of 96 inputs and, for the next layer, of 128
    assert kernel(BYTE_DOT, "linear_gate_up_groups") == (weights + 9 * (96 + 2 * 8 + 128 + 2 * 8), 9 * 256 * 96)


def test_what_a_long_prompt_multiplies_with() -> None:
    prompt = Load((Span(40, 40, 1),))
    amd = isa_named("avx512-amd")
    found = {scheme: step_cost(Plan(CONFIG, SCHEMES[scheme], amd), prompt).arithmetic for scheme in SCHEMES}
    bf16, int16 = Arithmetic("bf16", 1), Arithmetic("int8", 2)
    byte = Arithmetic("int8", 1)
    weights = {"fp16": bf16, "bf16": bf16, "w8a16": int16, "w8a8": byte}
    assert found == weights | {"w16kv8": bf16, "w8a16_kv8": int16, "w8a8_kv8": byte}


def test_passes_over_the_vocabulary() -> None:
    vocab = CONFIG.vocab_size
    assert (
        kernel(FLOAT, "logit_peaks")
        == kernel(FLOAT, "logit_weights")
        == kernel(FLOAT, "cut_bounds")
        == kernel(FLOAT, "kept_weights")
        == (vocab * 8, 0)
    )


def test_unknown_kernel_has_no_cost() -> None:
    assert kernel_cost(FLOAT, "softmax", LOAD) is None


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_kernel_of_every_plan_has_a_cost(scheme: str, isa: Isa) -> None:
    plan = Plan(CONFIG, SCHEMES[scheme], isa)
    for name in kernels(plan):
        cost = kernel_cost(plan, name, LOAD)
        assert cost is not None, f"{name} needs an entry in kernel_cost.ROLES"
        assert cost.bytes > 0
        assert (cost.macs > 0) == name.startswith(("linear_", "attention_")), name
        assert cost.seconds(RATES) > 0
    assert all(any(name.startswith(role) for name in kernels(BYTE_DOT)) for role in ROLES), "a role without a kernel"


def test_the_longer_of_reading_and_multiplying_binds() -> None:
    reading = Cost(1e9, 1e9, Arithmetic("int8", 2))
    assert reading.seconds(RATES) == pytest.approx(1 / 50)
    assert reading.limit(RATES) == "read"
    multiplying = Cost(1e8, 1e9, Arithmetic("int8", 2))
    assert multiplying.seconds(RATES) == pytest.approx(2 / 400)
    assert multiplying.limit(RATES) == "multiply"
    assert Cost(1e8, 1e9).seconds(RATES) == pytest.approx(1 / 100)


def test_reached() -> None:
    found = Cost(2e8, 1e9, Arithmetic("int8", 2)).reached(0.010, RATES)
    assert found.pop("limit") == "multiply"
    assert found == pytest.approx({"mb": 200, "mmac": 1000, "gb_s": 20, "gmac_s": 100, "fraction": 0.5})
