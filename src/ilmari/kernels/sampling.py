"""What drawing a token needs to know of a row of logits, in passes over the whole vocabulary.

A row is cut into chunks of `CHUNK` tokens, so that what a pass finds fits in few numbers for each chunk. Its weights
are the probabilities relative to the best token's, exp((x - greatest) / temperature), in float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvm.script import tirx as T

from ilmari.kernels.isa import Isa
from ilmari.kernels.numeric import exp_nonpositive, lane_max, lane_sum
from ilmari.kernels.sampling_chunks import BINS, CHUNK, LOWEST, PARTS, chunks

if TYPE_CHECKING:
    from tvm.tirx import PrimFunc

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


def weight_bins(isa: Isa, vocab: int) -> PrimFunc:
    """Each token's bin, floor((greatest - Y) * per_unit) and at most the last, with the bins' tokens and weights.

    `PARTS` runs of chunks are counted apart: counts [PARTS, BINS] int32, sums [PARTS, BINS] float64.
    """
    lanes, count = isa.lanes, chunks(vocab)
    run = -(-count // PARTS)

    @T.inline
    def place(c, Y, greatest, per_unit, bins):
        for j in T.serial(CHUNK // lanes):
            below: T.let = T.broadcast(greatest, lanes) - Y[c, T.ramp(j * lanes, 1, lanes)]
            at: T.let = T.min(below * T.broadcast(per_unit, lanes), T.broadcast(T.float32(BINS - 1), lanes))
            bins[c, T.ramp(j * lanes, 1, lanes)] = T.cast(T.cast(at, f"int32x{lanes}"), f"uint8x{lanes}")

    @T.prim_func
    def kernel(
        Y: T.Buffer((count, CHUNK), "float32"),
        W: T.Buffer((count, CHUNK), "float32"),
        greatest: T.float32,
        per_unit: T.float32,
        bins: T.Buffer((count, CHUNK), "uint8"),
        counts: T.Buffer((PARTS, BINS), "int32"),
        sums: T.Buffer((PARTS, BINS), "float64"),
    ):
        for part in T.parallel(PARTS):
            for b in T.serial(BINS):
                counts[part, b] = 0
                sums[part, b] = T.float64(0)
            for k in T.serial(T.max(T.min(run, count - part * run), 0)):
                place(part * run + k, Y, greatest, per_unit, bins)
                for i in T.serial(CHUNK):
                    b: T.let = T.cast(bins[part * run + k, i], "int32")
                    counts[part, b] = counts[part, b] + 1
                    sums[part, b] = sums[part, b] + T.cast(W[part * run + k, i], "float64")

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
