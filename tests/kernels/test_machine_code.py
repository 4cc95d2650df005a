"""What compiled kernels consist of: no library calls, accumulators in registers, code that links without a compiler."""

import re
import shutil
import subprocess

import numpy as np
import pytest
from packed import CONFIG, linear_shape, packed_weight

from ilmari.kernels.compiler import compile_kernels, kernels
from ilmari.kernels.embedding import embedding
from ilmari.kernels.kv_layout import key_shape, value_shape
from ilmari.kernels.library import KernelLibrary, aligned_copy, tensor
from ilmari.kernels.linear_float import linear_float
from ilmari.kernels.linear_int8 import linear_int8
from ilmari.kernels.plan import Plan
from ilmari.kernels.quantize_rows import quantize_rows
from ilmari.kernels.rmsnorm import rmsnorm
from ilmari.kernels.rope_append import rope_append
from ilmari.kernels.scheme import SCHEMES
from ilmari.kernels.silu_multiply import silu_multiply
from ilmari.kernels.target import check_host, resolve_target

RUNTIME = re.compile(r"TVM\w+|memset|memcpy")
HALF_CALL = re.compile(r"\b(?:call|jmp)\w*\s+\S*(?:__extendhfsf2|__truncsfhf2|__gnu_\w2\w_ieee)")
SPILLED_BUFFER = re.compile(r"alloca (?:\[\d+ x )?<?(?:\d+ x )?(?:float|half|i32|i8)\b.*")


def small_plan(isa, scheme):
    return Plan(CONFIG, SCHEMES[scheme], isa)


@pytest.fixture(scope="module")
def objects(isa, target, tmp_path_factory):
    """Object files of the small model, by scheme."""
    folder = tmp_path_factory.mktemp(isa.name)
    paths = {}
    for scheme in SCHEMES:
        paths[scheme] = folder / f"{scheme}.o"
        paths[scheme].write_bytes(compile_kernels(small_plan(isa, scheme), target, lambda *_: None))
    return paths


def elementwise_and_linear(isa):
    """Every kernel whose local buffers are meant to be registers: all but attention."""
    yield rmsnorm, 80, 1e-5
    yield silu_multiply, 16, 32
    yield embedding, 37, 80
    yield rope_append, 3, 1, 64, 352
    for name in ("o", "head"):
        yield linear_float, linear_shape(isa, "fp16", name, 96), "float16"
        yield linear_float, linear_shape(isa, "fp16", name, 96), "int8"
    if isa.int8_dot:
        yield quantize_rows, 80
        for name in ("o", "head"):
            yield linear_int8, linear_shape(isa, "w8a16", name, 96)
