"""Kernels that do one thing only, as fast as the machine can: read memory, or multiply and add in registers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tvm.script import tirx as T

if TYPE_CHECKING:
    from tvm.tirx import PrimExpr, PrimFunc

STREAMS = 8
"""Vectors that one turn of the reading loop sums, each into an accumulator of its own."""

CHAINS = 12
"""Accumulators of the multiplying loop: more than an instruction's latency times its rate; with operands they still fit
into 16 registers."""


def read_kernel(threads: int, turns: int, lanes: int) -> PrimFunc:
    """Sums int32 [threads, turns, STREAMS * lanes] over all but the lanes; each thread reads one contiguous part."""

    @T.prim_func
    def kernel(
        data: T.Buffer((threads, turns, STREAMS * lanes), "int32"), out: T.Buffer((threads, STREAMS * lanes), "int32")
    ):
        for thread in T.parallel(threads):
            acc = T.alloc_buffer(
                (STREAMS * lanes,), "int32", scope="local", annotations={"disable_lower_builtin": True}
            )
            for s in T.unroll(STREAMS):
                acc[T.ramp(s * lanes, 1, lanes)] = T.broadcast(T.int32(0), lanes)
            for i in T.serial(turns):
                for s in T.unroll(STREAMS):
                    acc[T.ramp(s * lanes, 1, lanes)] = (
                        acc[T.ramp(s * lanes, 1, lanes)] + data[thread, i, T.ramp(s * lanes, 1, lanes)]
                    )
            for s in T.unroll(STREAMS):
                out[thread, T.ramp(s * lanes, 1, lanes)] = acc[T.ramp(s * lanes, 1, lanes)]

    return kernel


Multiply = Callable[["PrimExpr", "PrimExpr", "PrimExpr"], "PrimExpr"]


def multiply_kernel(
    threads: int, turns: int, lanes: int, dtype: str, operands: tuple[str, str], width: int, multiply: Multiply
) -> PrimFunc:
    """`turns` times CHAINS instructions on each thread, all operands in registers.

    multiply(acc, a, b): the instruction on an accumulator of `lanes` numbers of `dtype`, and on two vectors of `width`
    numbers of the types `operands`. out [threads, CHAINS * lanes] are the accumulators at the end.
    """
    a_dtype, b_dtype = operands

    @T.prim_func
    def kernel(
        a: T.Buffer((width,), a_dtype), b: T.Buffer((width,), b_dtype), out: T.Buffer((threads, CHAINS * lanes), dtype)
    ):
        for thread in T.parallel(threads):
            acc = T.alloc_buffer((CHAINS * lanes,), dtype, scope="local", annotations={"disable_lower_builtin": True})
            for s in T.unroll(CHAINS):
                acc[T.ramp(s * lanes, 1, lanes)] = out[thread, T.ramp(s * lanes, 1, lanes)]
            for _ in T.serial(turns):
                for s in T.unroll(CHAINS):
                    acc[T.ramp(s * lanes, 1, lanes)] = multiply(
                        acc[T.ramp(s * lanes, 1, lanes)], a[T.ramp(0, 1, width)], b[T.ramp(0, 1, width)]
                    )
            for s in T.unroll(CHAINS):
                out[thread, T.ramp(s * lanes, 1, lanes)] = acc[T.ramp(s * lanes, 1, lanes)]

    return kernel
