"""What drawing a token needs to know of a row of logits, in passes over the whole vocabulary.

A row is cut into chunks of `CHUNK` tokens, so that what a pass finds fits in few numbers for each chunk. Its weights
are the probabilities relative to the best token's, exp((x - greatest) / temperature), in float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvm.script import tirx as T

from ilmari.kernels.isa import Isa
from ilmari.kernels.numeric import exp_nonpositive, lane_max, lane_sum
from ilmari.kernels.sampling_chunks import CHUNK, LOWEST, STEPS, chunks

if TYPE_CHECKING:
    from tvm.tirx import Buffer, PrimExpr, PrimFunc

MAGNITUDE = 0x7FFFFFFF  # of a float32's bits


def logit_peaks(isa: Isa, vocab: int) -> PrimFunc:
    """Y[:vocab] = X and Y[vocab:] = `LOWEST`; by chunks of Y the greatest number, and the greatest magnitude's bits.

    X is [vocab], Y [chunks, CHUNK]; both may be the same memory.
    """
    lanes, count = isa.lanes, chunks(vocab)
    whole = vocab // lanes

    @T.prim_func
    def kernel(
        X: T.Buffer((vocab,), "float32"),
        Y: T.Buffer((count, CHUNK), "float32"),
        peak: T.Buffer((count,), "float32"),
        magnitude: T.Buffer((count,), "int32"),
    ):
        for c in T.parallel(count):
            best = T.alloc_buffer((lanes,), "float32", scope="local", annotations={"disable_lower_builtin": True})
            bits = T.alloc_buffer((lanes,), "int32", scope="local", annotations={"disable_lower_builtin": True})
            best[T.ramp(0, 1, lanes)] = T.broadcast(T.float32(LOWEST), lanes)
            bits[T.ramp(0, 1, lanes)] = T.broadcast(T.int32(0), lanes)
            for j in T.serial(T.min(CHUNK // lanes, whole - c * (CHUNK // lanes))):
                Y[c, T.ramp(j * lanes, 1, lanes)] = X[T.ramp(c * CHUNK + j * lanes, 1, lanes)]
            if c == count - 1:
                for i in T.serial(vocab % lanes):
                    Y[c, whole * lanes - c * CHUNK + i] = X[whole * lanes + i]
                for i in T.serial(count * CHUNK - vocab):
                    Y[c, vocab - c * CHUNK + i] = T.float32(LOWEST)
            for j in T.serial(CHUNK // lanes):
                x: T.let = Y[c, T.ramp(j * lanes, 1, lanes)]
                best[T.ramp(0, 1, lanes)] = T.max(best[T.ramp(0, 1, lanes)], x)
                bits[T.ramp(0, 1, lanes)] = T.max(
                    bits[T.ramp(0, 1, lanes)],
                    T.reinterpret(x, dtype=f"int32x{lanes}") & T.broadcast(T.int32(MAGNITUDE), lanes),
                )
            peak[c] = lane_max(best, lanes)
            magnitude[c] = lane_max(bits, lanes)

    return kernel


def logit_weights(isa: Isa, vocab: int) -> PrimFunc:
    """W = exp((Y - greatest) * factor), [chunks, CHUNK] float32, and its sums by chunks; no Y is above `greatest`."""
    lanes, count = isa.lanes, chunks(vocab)

    @T.prim_func
    def kernel(
        Y: T.Buffer((count, CHUNK), "float32"),
        greatest: T.float32,
        factor: T.float32,
        W: T.Buffer((count, CHUNK), "float32"),
        total: T.Buffer((count,), "float32"),
    ):
        for c in T.parallel(count):
            sums = T.alloc_buffer((lanes,), "float32", scope="local", annotations={"disable_lower_builtin": True})
            sums[T.ramp(0, 1, lanes)] = T.broadcast(T.float32(0), lanes)
            for j in T.serial(CHUNK // lanes):
                below: T.let = Y[c, T.ramp(j * lanes, 1, lanes)] - T.broadcast(greatest, lanes)
                weight: T.let = exp_nonpositive(isa, below * T.broadcast(factor, lanes))
                W[c, T.ramp(j * lanes, 1, lanes)] = weight
                sums[T.ramp(0, 1, lanes)] = sums[T.ramp(0, 1, lanes)] + weight
            total[c] = lane_sum(sums, range(lanes))

    return kernel


def cut_bounds(isa: Isa, vocab: int) -> PrimFunc:
    """Narrow two logits down to where a ranking is cut: V has a sum of `target` above the first, less above the last.

    bounds, float32 [STEPS + 2]: these logits first and last, and between them those that a pass tries. beyond, float64:
    the sums of V, [chunks, CHUNK], in tokens above each; the first, until it is narrowed, may be infinite. sums,
    float32 [STEPS + 2, chunks]: the same by chunks, an output alone. V has to be exp((Y - greatest) * factor):
    the search ends when a single token, or no other number, lies between the two.
    """
    lanes, count = isa.lanes, chunks(vocab)
    last = STEPS + 1

    def step_sum(lane_sums: Buffer, i: int) -> PrimExpr:
        return lane_sum(lane_sums, [i * lanes + lane for lane in range(lanes)])

    @T.inline
    def divide(greatest, factor, bounds, beyond):
        weight = T.alloc_buffer((lanes,), "float32", scope="local", annotations={"disable_lower_builtin": True})
        weight[T.ramp(0, 1, lanes)] = exp_nonpositive(isa, T.broadcast((bounds[0] - greatest) * factor, lanes))
        least: T.let = bounds[0]
        # Two tokens would have twice the weight of the least that may lie between the bounds.
        single: T.let = beyond[0] - beyond[last] < T.float64(1.5) * T.cast(weight[0], "float64")
        width: T.let = T.Select(single, T.float32(0), bounds[last] - least)
        for i in T.serial(STEPS):
            bounds[i + 1] = least + width * T.cast(i + 1, "float32") * T.float32(1 / (STEPS + 1))

    @T.inline
    def add_chunk(c, Y, V, bounds, sums):
        each = T.alloc_buffer((STEPS * lanes,), "float32", scope="local", annotations={"disable_lower_builtin": True})
        for i in T.unroll(STEPS):
            each[T.ramp(i * lanes, 1, lanes)] = T.broadcast(T.float32(0), lanes)
        for j in T.serial(CHUNK // lanes):
            y: T.let = Y[c, T.ramp(j * lanes, 1, lanes)]
            v: T.let = V[c, T.ramp(j * lanes, 1, lanes)]
            for i in T.unroll(STEPS):
                before: T.let = each[T.ramp(i * lanes, 1, lanes)]
                each[T.ramp(i * lanes, 1, lanes)] = T.Select(y > T.broadcast(bounds[i + 1], lanes), before + v, before)
        for i in T.unroll(STEPS):
            sums[i + 1, c] = step_sum(each, i)

    @T.inline
    def narrow(end, step, bounds, beyond, sums):
        bounds[end] = bounds[step]
        beyond[end] = beyond[step]
        for c in T.serial(count):
            sums[end, c] = sums[step, c]

    @T.prim_func
    def kernel(
        Y: T.Buffer((count, CHUNK), "float32"),
        V: T.Buffer((count, CHUNK), "float32"),
        greatest: T.float32,
        factor: T.float32,
        target: T.float64,
        sums: T.Buffer((STEPS + 2, count), "float32"),
        bounds: T.Buffer((STEPS + 2,), "float32"),
        beyond: T.Buffer((STEPS + 2,), "float64"),
    ):
        for c in T.serial(count):
            sums[0, c] = T.infinity("float32")
            sums[last, c] = T.float32(0)
        divide(greatest, factor, bounds, beyond)
        while bounds[0] < bounds[STEPS // 2 + 1] and bounds[STEPS // 2 + 1] < bounds[last]:
            for c in T.parallel(count):
                # A sum never falls as tokens are added: one that is equal above both bounds, as of a chunk without
                # tokens between them, is so above each logit between.
                if sums[0, c] > sums[last, c]:
                    add_chunk(c, Y, V, bounds, sums)
                else:
                    for i in T.unroll(STEPS):
                        sums[i + 1, c] = sums[0, c]
            for i in T.serial(STEPS):
                beyond[i + 1] = T.float64(0)
            for c in T.serial(count):
                for i in T.unroll(STEPS):
                    beyond[i + 1] = beyond[i + 1] + T.cast(sums[i + 1, c], "float64")
            for i in T.serial(STEPS):
                if beyond[i + 1] >= target:
                    narrow(0, i + 1, bounds, beyond, sums)
            for i in T.serial(STEPS):
                if T.Not(beyond[STEPS - i] >= target):
                    narrow(last, STEPS - i, bounds, beyond, sums)
            divide(greatest, factor, bounds, beyond)

    return kernel


def kept_weights(isa: Isa, vocab: int) -> PrimFunc:
    """By chunks the weights W of tokens whose Y is above `least`, or equal to it in a token up to `last`."""
    lanes, count = isa.lanes, chunks(vocab)

    @T.prim_func
    def kernel(
        Y: T.Buffer((count, CHUNK), "float32"),
        W: T.Buffer((count, CHUNK), "float32"),
        least: T.float32,
        last: T.int32,
        total: T.Buffer((count,), "float32"),
    ):
        for c in T.parallel(count):
            sums = T.alloc_buffer((lanes,), "float32", scope="local", annotations={"disable_lower_builtin": True})
            sums[T.ramp(0, 1, lanes)] = T.broadcast(T.float32(0), lanes)
            for j in T.serial(CHUNK // lanes):
                y: T.let = Y[c, T.ramp(j * lanes, 1, lanes)]
                weight: T.let = W[c, T.ramp(j * lanes, 1, lanes)]
                nothing: T.let = T.broadcast(T.float32(0), lanes)
                tokens: T.let = T.ramp(c * CHUNK + j * lanes, 1, lanes)
                early: T.let = T.Select(y >= T.broadcast(least, lanes), weight, nothing)
                late: T.let = T.Select(y > T.broadcast(least, lanes), weight, nothing)
                kept: T.let = T.Select(tokens <= T.broadcast(last, lanes), early, late)
                sums[T.ramp(0, 1, lanes)] = sums[T.ramp(0, 1, lanes)] + kept
            total[c] = lane_sum(sums, range(lanes))

    return kernel
