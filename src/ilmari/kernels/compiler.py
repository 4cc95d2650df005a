"""All kernels of a plan, compiled to one object file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import tvm

from ilmari.kernels.attention_decode import attention_decode
from ilmari.kernels.attention_prefill import attention_prefill
from ilmari.kernels.attention_tiles import tile_tokens
from ilmari.kernels.embedding import embedding
from ilmari.kernels.linear_float import linear_float
from ilmari.kernels.linear_int8 import linear_int8
from ilmari.kernels.plan import Plan
from ilmari.kernels.quantize_rows import quantize_rows
from ilmari.kernels.rmsnorm import rmsnorm
from ilmari.kernels.rope_append import rope_append
from ilmari.kernels.silu_multiply import silu_multiply
from ilmari.kernels.target import Target, tvm_target
from ilmari.report import Progress

if TYPE_CHECKING:
    from tvm.tirx import PrimFunc


def kernels(plan: Plan) -> dict[str, Callable[[], PrimFunc]]:
    """Every kernel of a model by the name the runner calls it, as a thunk: generating one takes a moment."""
    config, isa = plan.config, plan.isa
    heads, kv_heads, head_dim = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    qkv, gate_up = plan.linears["qkv"], plan.linears["gate_up"]
    table: dict[str, Callable[[], PrimFunc]] = {
        "embedding": partial(embedding, isa, config.vocab_size, config.hidden_size),
        "rmsnorm": partial(rmsnorm, isa, config.hidden_size, config.rms_norm_eps),
        "rope_append": partial(rope_append, isa, heads, kv_heads, head_dim, qkv.n),
        "attention_prefill": partial(attention_prefill, isa, heads, kv_heads, head_dim, tile_tokens(config.q_per_kv)),
        "attention_decode": partial(attention_decode, isa, heads, kv_heads, head_dim),
        "silu_multiply": partial(silu_multiply, isa, plan.intermediate, gate_up.n),
    }
    for name, shape in plan.linears.items():
        if plan.byte_dot:
            table[f"linear_{name}"] = partial(linear_int8, isa, shape)
            table[f"quantize_{shape.k}"] = partial(quantize_rows, isa, shape.k)
        else:
            table[f"linear_{name}"] = partial(linear_float, isa, shape, plan.scheme.weights)
    return table


def compile_kernels(plan: Plan, target: Target, progress: Progress) -> bytes:
    """Machine code of every kernel, as one object file; the same input gives the same bytes.

    `progress` counts kernels as they are generated; the compilation itself is the last step.
    """
    table = kernels(plan)
    functions = {}
    for done, (name, generate) in enumerate(table.items()):
        progress(done, len(table) + 1)
        functions[name] = generate().with_attr("global_symbol", name)
    progress(len(table), len(table) + 1)
    executable = tvm.compile(tvm.IRModule(functions), target=tvm_target(target), tir_pipeline="tirx")
    with _object_file() as path:
        executable.mod.write_to_file(str(path), "o")
        progress(len(table) + 1, len(table) + 1)
        return path.read_bytes()


@contextmanager
def _object_file() -> Iterator[Path]:
    """A file that LLVM can write, for as long as the block lasts: in memory, or on a disk where there is no such thing.

    LLVM ends the whole process when a disk is full, and would leave its work half done.
    """
    if hasattr(os, "memfd_create"):
        memory = os.memfd_create("kernels.o")
        try:
            yield Path(f"/proc/self/fd/{memory}")
        finally:
            os.close(memory)
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder) / "kernels.o"
