"""What compiled kernels consist of: no library calls, accumulators in registers, code that links without a compiler."""

import re
import shutil
import subprocess

import numpy as np
import pytest
from packed import CONFIG, CPUS, INTEGER_ISAS, linear_shape

from ilmari.errors import TargetError
from ilmari.kernels.compiler import compile_kernels
from ilmari.kernels.embedding import embedding
from ilmari.kernels.isa import ISAS
from ilmari.kernels.kv_layout import key_shape, value_shape
from ilmari.kernels.library import KernelLibrary, aligned_copy, tensor
from ilmari.kernels.linear_bfloat16 import linear_bfloat16
from ilmari.kernels.linear_float import linear_float
from ilmari.kernels.linear_groups import linear_groups
from ilmari.kernels.linear_halves import linear_halves
from ilmari.kernels.linear_pairs import linear_pairs
from ilmari.kernels.plan import Plan
from ilmari.kernels.rmsnorm import rmsnorm, rmsnorm_reference
from ilmari.kernels.rope_append import rope_append
from ilmari.kernels.round_rows import round_rows
from ilmari.kernels.scheme import SCHEMES
from ilmari.kernels.silu_multiply import silu_multiply
from ilmari.kernels.target import check_host, resolve_target

ALLOWED = re.compile(r"TVM\w+|memset|memcpy")
CALL = re.compile(r"\b(?:call|jmp)\w*\s+([A-Za-z_]\w*)")
OWN_FUNCTION = re.compile(r"^([A-Za-z_]\w*):", re.MULTILINE)
HALF_CONVERSIONS = {"__extendhfsf2", "__truncsfhf2"}  # TVM puts them into every object: slow, and not for us
ARRAY_IN_MEMORY = re.compile(r"alloca (?:\[\d+ x )?<?(?:\d+ x )?(?:float|half|i32|i8)\b.*")


OBJECTS = (*INTEGER_ISAS, *(isa for isa in ISAS if not isa.word_dot))


@pytest.fixture(scope="module", params=OBJECTS, ids=lambda isa: isa.name)
def isa_of_object(request):
    return request.param


@pytest.fixture(scope="module")
def object_file(isa_of_object, tmp_path_factory):
    """object_file(scheme): (target, path): all kernels of the small model, for a CPU that need not be this one."""

    def compile_all(scheme):
        target = resolve_target(CPUS[isa_of_object.name])
        path = tmp_path_factory.mktemp("kernels") / "kernels.o"
        path.write_bytes(compile_kernels(Plan(CONFIG, SCHEMES[scheme], isa_of_object), target, lambda *_: None))
        return target, path

    return compile_all


@pytest.mark.skipif(shutil.which("nm") is None, reason="nm, of binutils, is not installed")
@pytest.mark.parametrize("scheme", ["w8a16", "w8a8", "w8a16_kv8"])
def test_object_needs_nothing_but_the_runtime(object_file, scheme):
    _, path = object_file(scheme)
    listing = subprocess.run(["nm", "--undefined-only", path], capture_output=True, text=True, check=True).stdout
    names = [line.split()[-1] for line in listing.splitlines()]
    assert names
    assert [name for name in names if not ALLOWED.fullmatch(name)] == []


def test_object_runs_through_the_linker(object_file, rng):
    """With a kernel that shares its rows between threads, and one that needs a workspace."""
    target, path = object_file("fp16")
    try:
        check_host(target, "this object")
    except TargetError as error:
        pytest.skip(str(error))
    library = KernelLibrary(path)

    x, weight = rng.standard_normal((9, 96)).astype(np.float32), rng.standard_normal(96).astype(np.float32)
    y = aligned_copy(np.zeros_like(x))
    library["norm_float32"](*map(tensor, (aligned_copy(x), aligned_copy(weight), y)))
    np.testing.assert_allclose(y, rmsnorm_reference(x, weight, CONFIG.rms_norm_eps), rtol=1e-6)

    q = rng.standard_normal((1, CONFIG.q_size)).astype(np.float32)
    k = rng.standard_normal(key_shape("float16", 1, 1, 64)).astype(np.float16)
    v = rng.standard_normal(value_shape("float16", 1, 1, 64)).astype(np.float16)
    zero, one = np.zeros(1, np.int32), np.ones(1, np.int32)
    y = aligned_copy(np.zeros_like(q))
    arguments = (q, k, v, zero[None], np.array([0, 1], np.int32), zero, zero, zero, one)
    library["attention_decode"](*(tensor(aligned_copy(array)) for array in arguments), tensor(y))
    np.testing.assert_array_equal(y[0], np.tile(v[0, 0, 0].astype(np.float32), 3))


def register_kernels(isa):
    """Every kernel whose local buffers are meant to be registers: all but attention."""
    yield rmsnorm, 80, 1e-5
    yield silu_multiply, 16, 32
    yield embedding, 37, 80, "float16"
    yield embedding, 37, 80, "bfloat16"
    yield rope_append, 3, 1, 64, 352, "float16"
    yield rope_append, 3, 1, 64, 352, "int8"
    for name, hidden in (("o", 80), ("down", 96), ("head", 96)):
        for dtype in ("float16", "bfloat16", "int8"):
            yield linear_float, linear_shape(isa, "fp16", name, hidden), dtype
    if isa.bf16_dot:
        yield round_rows, 80
        for dtype in ("float16", "bfloat16"):
            yield linear_bfloat16, linear_shape(isa, "fp16", "down", 96), dtype
    if isa.word_dot:
        for generate in (linear_halves, linear_pairs, linear_groups):
            for name, hidden in (("o", 160), ("down", 96), ("head", 96)):
                yield generate, linear_shape(isa, "w8a16", name, hidden)


def test_local_buffers_are_registers(isa, compiled):
    """A buffer that LLVM cannot split is taken from the heap or the stack: the kernel is then several times slower."""
    for generate, *arguments in register_kernels(isa):
        code = compiled(generate, *arguments).source("ll")
        # Some prepare weights in cache.
        with_panel = generate in (linear_pairs, linear_bfloat16)
        assert ("TVMBackendAllocWorkspace" in code) == with_panel, generate.__name__
        if generate is not rope_append:  # it stores a key's features one by one
            assert ARRAY_IN_MEMORY.findall(code) == [], generate.__name__


def test_nothing_is_called_but_the_runtime(isa, compiled):
    for generate, *arguments in register_kernels(isa):
        code = compiled(generate, *arguments).source("asm")
        called, own = set(CALL.findall(code)), set(OWN_FUNCTION.findall(code)) - HALF_CONVERSIONS
        assert called
        assert [name for name in called - own if not ALLOWED.fullmatch(name)] == [], generate.__name__
