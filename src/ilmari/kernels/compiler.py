"""All kernels of a plan, compiled to one object file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import tvm
import tvm_ffi

from ilmari.kernels.attention_decode import attention_decode
from ilmari.kernels.attention_prefill import attention_prefill
from ilmari.kernels.attention_tiles import tile_tokens
from ilmari.kernels.embedding import embedding
from ilmari.kernels.form import BFLOAT16, FLOAT32, GROUPS, HALVES, PAIRS, WORDS, Form
from ilmari.kernels.gated_groups import gated_groups
from ilmari.kernels.inlining import quick_inlining
from ilmari.kernels.isa import Isa
from ilmari.kernels.layer_input import copy, norm, silu
from ilmari.kernels.linear_bfloat16 import linear_bfloat16
from ilmari.kernels.linear_float import linear_float
from ilmari.kernels.linear_groups import linear_groups
from ilmari.kernels.linear_halves import linear_halves
from ilmari.kernels.linear_pairs import linear_pairs
from ilmari.kernels.linear_words import linear_words
from ilmari.kernels.plan import LinearShape, Plan
from ilmari.kernels.rope_append import rope_append
from ilmari.kernels.sampling import cut_bounds, kept_weights, logit_peaks, logit_weights
from ilmari.kernels.target import Target, tvm_target
from ilmari.report import Progress

if TYPE_CHECKING:
    from tvm.tirx import PrimFunc

# Ctrl-C while TVM runs a pass of its own in Python would come out of it as a RuntimeError without words.
tvm_ffi.register_error("KeyboardInterrupt", KeyboardInterrupt)

LINEARS: dict[Form, Callable[[Isa, LinearShape], PrimFunc]] = {
    HALVES: linear_halves,
    PAIRS: linear_pairs,
    WORDS: linear_words,
    GROUPS: linear_groups,
}
"""The products of int8 weights and integers."""

FLOAT_LINEARS: dict[Form, Callable[[Isa, LinearShape, str], PrimFunc]] = {
    FLOAT32: linear_float,
    BFLOAT16: linear_bfloat16,
}
"""Those of floats, which take the dtype of the weights as well."""

SAMPLING: tuple[Callable[[Isa, int], PrimFunc], ...] = (logit_peaks, logit_weights, cut_bounds, kept_weights)
"""Passes over the logits of the whole vocabulary, which rank 0 makes."""


def kernels(plan: Plan) -> dict[str, Callable[[], PrimFunc]]:
    """Every kernel of a model by the name the runner calls it, as a thunk: generating one takes a moment.

    A linear layer's kernel is named after the layer and the form of its input; what makes the input, likewise.
    """
    config, isa = plan.local, plan.isa
    heads, kv_heads, head_dim = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    hidden, eps, intermediate = config.hidden_size, config.rms_norm_eps, plan.intermediate
    attention = isa, heads, kv_heads, head_dim
    qkv, gate_up, kv_dtype = plan.linears["qkv"], plan.linears["gate_up"], plan.scheme.kv_cache
    table: dict[str, Callable[[], PrimFunc]] = {
        "embedding": partial(embedding, isa, config.vocab_size, hidden, plan.scheme.embedding),
        "rope_append": partial(rope_append, *attention, qkv.n, kv_dtype),
        "attention_prefill": partial(attention_prefill, *attention, tile_tokens(config.q_per_kv), kv_dtype),
        "attention_decode": partial(attention_decode, *attention, kv_dtype),
        **{pass_.__name__: partial(pass_, isa, plan.config.vocab_size) for pass_ in SAMPLING},
    }
    for _, form in plan.forms:
        table[f"norm_{form.name}"] = partial(norm, isa, form, hidden, eps)
        if form is not GROUPS:  # there it is part of gate_up's kernel
            table[f"silu_{form.name}"] = partial(silu, isa, form, intermediate, gate_up.n)
        if form is not FLOAT32:  # attention's output is
            table[f"copy_{form.name}"] = partial(copy, isa, form, config.q_size)
        for name, shape in plan.linears.items():
            table[f"linear_{name}_{form.name}"] = _linear(plan, form, shape)
    if GROUPS in dict(plan.forms).values():
        table["linear_gate_up_groups"] = partial(gated_groups, isa, gate_up)
    return table


def _linear(plan: Plan, form: Form, shape: LinearShape) -> Callable[[], PrimFunc]:
    if form in LINEARS:
        return partial(LINEARS[form], plan.isa, shape)
    return partial(FLOAT_LINEARS[form], plan.isa, shape, plan.scheme.weights)


def compile_kernels(plan: Plan, target: Target, progress: Progress, names: Collection[str] | None = None) -> bytes:
    """Machine code of every kernel, or of those named, as one object file; the same input gives the same bytes.

    `progress` counts kernels as they are generated; the compilation itself is the last step.
    """
    table = {name: generate for name, generate in kernels(plan).items() if names is None or name in names}
    functions = {}
    for done, (name, generate) in enumerate(table.items()):
        progress(done, len(table) + 1)
        with quick_inlining():
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
