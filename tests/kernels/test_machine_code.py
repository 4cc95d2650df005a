"""What compiled kernels consist of: no library calls, accumulators in registers, code that links without a compiler."""

import re
import shutil
import subprocess

import numpy as np
import pytest
from compiled_kernel import WIDTHS, Kernel, target_for
from packed import CPUS, INTEGER_KERNELS, byte_shape, linear_shape
from small_model import SMALL

from ilmari.errors import TargetError
from ilmari.kernels.compiler import LINEARS, SAMPLING, compile_kernels, kernels
from ilmari.kernels.embedding import embedding
from ilmari.kernels.form import BFLOAT16, FLOAT32, GROUPS, HALVES
from ilmari.kernels.gated_groups import gated_groups
from ilmari.kernels.isa import isa_named
from ilmari.kernels.kv_layout import key_shape, value_shape
from ilmari.kernels.layer_input import copy, norm, silu
from ilmari.kernels.library import KernelLibrary, aligned_copy, tensor
from ilmari.kernels.linear_bfloat16 import linear_bfloat16
from ilmari.kernels.linear_float import linear_float
from ilmari.kernels.linear_groups import linear_groups
from ilmari.kernels.linear_halves import linear_halves
from ilmari.kernels.linear_pairs import linear_pairs
from ilmari.kernels.plan import Plan
from ilmari.kernels.rmsnorm import rmsnorm_reference
from ilmari.kernels.rope_append import rope_append
from ilmari.kernels.scheme import SCHEMES
from ilmari.kernels.target import check_host, host_arch, resolve_target
from ilmari.kernels.weights_ahead import FETCHERS

ALLOWED = re.compile(r"TVM\w+|memset|memcpy")
CALL = re.compile(r"\b(?:call|jmp)\w*\s+([A-Za-z_]\w*)")
OWN_FUNCTION = re.compile(r"^([A-Za-z_]\w*):", re.MULTILINE)
HALF_CONVERSIONS = {"__extendhfsf2", "__truncsfhf2"}  # TVM puts them into every object: slow, and not for us
# All but `claimed`, the marks of work stealing, which threads share in memory.
ARRAY_IN_MEMORY = re.compile(
    r"^(?!.*%claimed).*alloca (?:\[\d+ x )?<?(?:\d+ x )?(?:float|half|i32|i8)\b.*", re.MULTILINE
)


each_width = pytest.mark.parametrize("isa", [*WIDTHS, isa_named("avx512-amd")], ids=lambda isa: isa.name, indirect=True)
"""With AVX512 twice: loops with few loads, and without a bound on them."""

OBJECTS = tuple(map(isa_named, ("avx512-zen5", "avx2", "neon-i8mm", "generic")))


@pytest.fixture(scope="module", params=OBJECTS, ids=lambda isa: isa.name)
def isa_of_object(request):
    return request.param


def kernels_of_all_schemes(isa):
    """Each kernel once, under the name it has in the first scheme that has it.

    Of the linear layers only one that adds to its outputs and one that does not: the others differ from them in size;
    and none where `test_nothing_is_called_but_the_runtime` reads their code, as they take longest to compile.
    """
    table, seen = {}, set()
    skipped = "linear_" if isa in WIDTHS else ("linear_qkv", "linear_o", "linear_gate_up")
    for scheme in SCHEMES.values():
        for name, generate in kernels(Plan(SMALL, scheme, isa)).items():
            if name.startswith(skipped) or (generate.func, generate.args) in seen:
                continue
            seen.add((generate.func, generate.args))
            table[f"{name}_{scheme.name}" if name in table else name] = generate
    return table


def write_object(path, isa, target, table):
    """The kernels of a table as an object file, for a CPU that need not be this one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ilmari.kernels.compiler.kernels", lambda _: table)
        path.write_bytes(compile_kernels(Plan(SMALL, SCHEMES["fp16"], isa), target, lambda *_: None))


@pytest.mark.skipif(shutil.which("nm") is None, reason="nm, of binutils, is not installed")
def test_object_needs_nothing_but_the_runtime(isa_of_object, tmp_path):
    path = tmp_path / "kernels.o"
    write_object(path, isa_of_object, resolve_target(CPUS[isa_of_object.name]), kernels_of_all_schemes(isa_of_object))
    listing = subprocess.run(["nm", "--undefined-only", path], capture_output=True, text=True, check=True).stdout
    names = [line.split()[-1] for line in listing.splitlines()]
    assert names
    assert [name for name in names if not ALLOWED.fullmatch(name)] == []


def test_object_runs_through_the_linker(isa_of_object, tmp_path, rng):
    """With a kernel that shares its rows between threads, and one that needs a workspace."""
    target = target_for(isa_of_object)
    if target.arch != host_arch():
        with pytest.raises(TargetError, match=r"compiled for \w+ .* and this machine is"):
            check_host(target, "this object")
        return
    try:
        check_host(target, "this object")
    except TargetError as error:
        pytest.skip(str(error))
    table = kernels(Plan(SMALL, SCHEMES["fp16"], isa_of_object))
    table = {name: table[name] for name in ("norm_float32", "attention_decode")}
    write_object(tmp_path / "kernels.o", isa_of_object, target, table)
    library = KernelLibrary(tmp_path / "kernels.o")

    x, weight = rng.standard_normal((9, 96)).astype(np.float32), rng.standard_normal(96).astype(np.float32)
    y = aligned_copy(np.zeros_like(x))
    library["norm_float32"](*map(tensor, (aligned_copy(x), aligned_copy(weight), y)))
    np.testing.assert_allclose(y, rmsnorm_reference(x, weight, SMALL.rms_norm_eps), rtol=1e-6)

    q = rng.standard_normal((1, SMALL.q_size)).astype(np.float32)
    k = rng.standard_normal(key_shape("float16", 1, 1, 64)).astype(np.float16)
    v = rng.standard_normal(value_shape("float16", 1, 1, 64)).astype(np.float16)
    zero, one = np.zeros(1, np.int32), np.ones(1, np.int32)
    y = aligned_copy(np.zeros_like(q))
    arguments = (q, k, v, zero[None], np.array([0, 1], np.int32), zero, zero, zero, one)
    library["attention_decode"](*(tensor(aligned_copy(array)) for array in arguments), tensor(y))
    np.testing.assert_array_equal(y[0], np.tile(v[0, 0, 0].astype(np.float32), 3))


def register_kernels(isa):
    """Every kernel whose local buffers are meant to be registers: all but attention."""
    yield norm, FLOAT32, 80, 1e-5
    yield silu, FLOAT32, 16, 32
    yield embedding, 37, 80, "float16"
    yield embedding, 37, 80, "bfloat16"
    yield rope_append, 3, 1, 64, 352, "float16"
    yield rope_append, 3, 1, 64, 352, "int8"
    for generate in SAMPLING:
        yield generate, 1003
    for name, hidden in (("o", 80), ("down", 96), ("head", 96)):
        for dtype in ("float16", "bfloat16", "int8"):
            yield linear_float, linear_shape(isa, "fp16", name, hidden), dtype
    if isa.bf16_dot:
        yield copy, BFLOAT16, 80
        for dtype in ("float16", "bfloat16"):
            yield linear_bfloat16, linear_shape(isa, "fp16", "down", 96), dtype
    for generate in {LINEARS[form] for kernel_isa, form in INTEGER_KERNELS if kernel_isa is isa}:
        for name, hidden in (("o", 160), ("down", 96), ("head", 96)):
            yield generate, linear_shape(isa, "w8a16", name, hidden)
    if isa.byte_dot:
        yield gated_groups, linear_shape(isa, "w8a8", "gate_up", 96)


@each_width
def test_local_buffers_are_registers(isa, compiled):
    """A buffer that LLVM cannot split is taken from the heap or the stack: the kernel is then several times slower."""
    for generate, *arguments in register_kernels(isa):
        code = compiled(generate, *arguments).source("ll")
        # Some prepare weights in cache, or keep sums there.
        with_workspace = generate in (linear_pairs, linear_bfloat16, gated_groups)
        assert ("TVMBackendAllocWorkspace" in code) == with_workspace, generate.__name__
        if generate is not rope_append:  # it stores a key's features one by one
            assert ARRAY_IN_MEMORY.findall(code) == [], generate.__name__


@each_width
def test_nothing_is_called_but_the_runtime(isa, compiled):
    for generate, *arguments in register_kernels(isa):
        code = compiled(generate, *arguments).source("asm")
        called, own = set(CALL.findall(code)), set(OWN_FUNCTION.findall(code)) - HALF_CONVERSIONS
        assert called
        assert [name for name in called - own if not ALLOWED.fullmatch(name)] == [], generate.__name__


def inner_loops(code, instruction):
    """The innermost loops of assembly that have an instruction: from a label to the jump back to it."""
    lines = code.splitlines()
    at = {line.split(":")[0]: index for index, line in enumerate(lines) if line.startswith(".LBB")}
    jump = re.compile(r"\s+(b[.\s]|j\w+\s)")  # ARM's and x86's
    jumps = [(at.get(line.split()[-1], index), index) for index, line in enumerate(lines) if jump.match(line)]
    loops = [
        (first, last) for first, last in jumps if first < last and any(instruction in x for x in lines[first:last])
    ]
    inner = [a for a in loops if not any(a != b and a[0] <= b[0] and b[1] <= a[1] for b in loops)]
    return ["\n".join(lines[first:last]) for first, last in inner]


@pytest.mark.parametrize("form", [HALVES, GROUPS], ids=lambda form: form.name)
@pytest.mark.parametrize(("name", "instruction"), [("neon-dotprod", "sdot"), ("neon-i8mm", "smmla")])
def test_arm_multiplies_in_registers(name, instruction, form):
    """What cannot be run here is at least read: in each inner loop dot products, and next to no stores between them."""
    isa = isa_named(name)
    shape = byte_shape(isa, isa.lanes * isa.vectors, 2048, False)
    code = Kernel(LINEARS[form](isa, shape), resolve_target(CPUS[isa.name])).source("asm")
    loops = inner_loops(code, instruction)
    assert len(loops) >= 3  # register tiles of four rows or three, down to one
    for body in loops:
        assert 16 * len(re.findall(r"\bst[rp]\s+q", body)) <= len(re.findall(rf"\b{instruction}\b", body))


@pytest.mark.parametrize(("generate", "tiles"), [(linear_groups, 4), (linear_halves, 3), (gated_groups, 8)])
def test_loops_have_few_loads(generate, tiles):
    """Those of register tiles of one row as well, which are short enough for LLVM to unroll them."""
    isa = isa_named("avx512-zen5")
    code = Kernel(generate(isa, byte_shape(isa, 2048, 2048, False)), resolve_target(CPUS[isa.name])).source("asm")
    loops = inner_loops(code, "vpdpbusd")
    loads = [len(re.findall(r"\)(?:\{1to16\})?, %zmm", body)) for body in loops]
    assert len(loads) >= tiles
    assert all(isa.loads / 2 < count <= isa.loads for count in loads)
    # A whole tile asks for its share of what comes next, or for as many lines as it reads: two steps of 256 bytes.
    assert max(body.count("prefetcht0") for body in loops) == 2 * 4 // FETCHERS + 2 * 4
    assert "prefetcht1" not in code
