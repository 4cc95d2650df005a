"""Instruction sets: which CPU gets which, and what the register file allows."""

import subprocess
import sys

import numpy as np
import pytest
from tvm.script import tirx as T

from ilmari.kernels import (
    bfloat16_dot,
    linear_bfloat16,
    linear_float,
    linear_groups,
    linear_halves,
    linear_pairs,
    linear_words,
)
from ilmari.kernels.isa import ISAS, choose_isa, fma, isa_named
from ilmari.kernels.target import CPUINFO_NAMES, check_host, host_features, resolve_target

CPUS = {
    "znver4": "avx512-amd",
    "znver5": "avx512-zen5",
    "cascadelake": "avx512-vnni",
    "icelake-server": "avx512-vnni",
    "sapphirerapids": "avx512-bf16",
    "cooperlake": "avx512-bf16",
    "skylake-avx512": "avx2",
    "alderlake": "avx-vnni",
    "sierraforest": "avx-vnni",
    "znver3": "avx2",
    "haswell": "avx2",
    "x86-64-v3": "avx2",
    "ivybridge": "generic",
    "x86-64": "generic",
    "neoverse-n1": "neon-dotprod",
    "neoverse-n2": "neon-i8mm",
    "neoverse-v1": "neon-i8mm",
    "apple-a15": "neon-i8mm",
    "cortex-a76": "neon-dotprod",
    "cortex-a72": "generic",
}


@pytest.mark.parametrize(("cpu", "name"), CPUS.items())
def test_cpu_gets_the_best_instruction_set_it_has(cpu, name):
    assert resolve_target(cpu).isa_name == name


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
def test_every_feature_of_an_instruction_set_is_needed_for_it(isa):
    assert choose_isa(isa.features) is isa
    assert choose_isa(isa.features | {"sse4.1", "popcnt"}) is isa
    for feature in isa.features:
        assert choose_isa(isa.features - {feature}) is not isa


def test_nothing_at_all_is_enough_for_the_last():
    assert choose_isa(frozenset()) is ISAS[-1]


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
def test_table_is_consistent(isa):
    assert isa_named(isa.name) is isa
    assert isa.features <= CPUINFO_NAMES.keys()
    wide, arm = "avx512f" in isa.features, "neon" in isa.features
    lanes = 16 if wide else 8 if "avx2" in isa.features else 4
    registers = 32 if wide or arm else 16
    assert isa.lanes == lanes
    assert linear_float.ROWS * isa.vectors + 2 <= registers  # accumulators, a weight, an activation
    if isa.bf16_dot:
        assert isa.lanes == bfloat16_dot.LANES
        assert linear_bfloat16.ROWS * isa.vectors + isa.vectors + 1 <= registers
    if isa.byte_dot:
        assert linear_halves.ROWS * 2 * isa.vectors + isa.vectors + 1 <= registers
        assert linear_groups.ROWS * isa.vectors + isa.vectors * isa.dot_rows + 1 <= registers
    if isa.dot_rows > 1:
        assert isa.dot_rows * isa.dot_step == 4 * isa.lanes  # bytes of an operand: rows of inputs side by side
    if isa.word_dot:
        # Weights in two vectors each, an activation's two words, and their sums with the weights.
        assert linear_pairs.ROWS * isa.vectors + 2 * isa.vectors + 2 + 2 <= registers
        # An activation's two words, and the weights' of one vector.
        assert linear_words.ROWS * isa.vectors + 2 + 2 <= registers


def test_the_host_can_run_what_is_made_for_it():
    host = resolve_target("host")
    check_host(host, "this test")
    assert set(host.features) <= host_features()


def test_shapes_are_known_without_the_compiler():
    code = "import sys, ilmari.kernels.plan, ilmari.kernels.isa; sys.exit('tvm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def multiply_add(isa, size):
    lanes = isa.lanes

    @T.prim_func
    def kernel(A: T.Buffer((size,), "float32"), C: T.Buffer((size,), "float32"), Y: T.Buffer((size,), "float32")):
        for i in T.serial(size // lanes):
            Y[T.ramp(i * lanes, 1, lanes)] = fma(
                isa, A[T.ramp(i * lanes, 1, lanes)], T.broadcast(T.float32(3.5), lanes), C[T.ramp(i * lanes, 1, lanes)]
            )

    return kernel


def test_fma_works_on_every_lane(isa, compiled, rng):
    a, c = rng.standard_normal((2, 64)).astype(np.float32)
    y = np.full(64, np.nan, np.float32)
    compiled(multiply_add, 64)(a, c, y)
    exact = a.astype(np.float64) * 3.5 + c
    assert np.abs(y - exact).max() <= 2.0**-23 * (np.abs(a) * 3.5 + np.abs(c)).max()
    if isa.native_half:  # these fuse: one rounding
        np.testing.assert_array_equal(y, exact.astype(np.float32))
