"""Vector arithmetic as TIR expressions: conversions that every CPU has, and the exponential.

Each function takes and returns TIR expressions of `lanes` lanes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tvm.script import tirx as T

from ilmari.kernels.isa import Isa, fma

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tvm.tirx import Buffer, PrimExpr

LOG2_E = 1.4426950408889634
SMALLEST = 1e-30
"""Of keys, values, queries and weights: where none is as large, all count as zero, and scales stay invertible."""
SMALLEST_SCALE = 1e-37
"""What a scale is divided by at least, where it was made for 0."""
MASKED = -1e30  # a score whose exponential is 0, and that is no infinity to subtract from itself
LN_2_HIGH, LN_2_LOW = 0.693359375, -2.12194440e-4  # ln 2 in two parts, the first exact in few bits (Cody and Waite)


def widen(isa: Isa, x: PrimExpr, dtype: str) -> PrimExpr:
    """float16, bfloat16 (its bits as uint16) or int8 to float32, exactly.

    float16 infinities and NaNs are not supported: weights and KV are finite.
    """
    lanes = isa.lanes
    if dtype == "int8":
        return T.cast(T.cast(x, f"int32x{lanes}"), f"float32x{lanes}")
    if dtype == "bfloat16":
        bits = T.cast(x, f"uint32x{lanes}") << T.broadcast(T.uint32(16), lanes)
        return T.reinterpret(bits, dtype=f"float32x{lanes}")
    if isa.native_half:
        return T.cast(x, f"float32x{lanes}")
    # Place exponent and mantissa where float32 has them; the product corrects the bias, for subnormals too.
    bits = T.cast(T.reinterpret(x, dtype=f"uint16x{lanes}"), f"uint32x{lanes}")
    magnitude = (bits & T.broadcast(T.uint32(0x7FFF), lanes)) << T.broadcast(T.uint32(13), lanes)
    scaled = T.reinterpret(magnitude, dtype=f"float32x{lanes}") * T.broadcast(T.float32(2.0**112), lanes)
    sign = (bits & T.broadcast(T.uint32(0x8000), lanes)) << T.broadcast(T.uint32(16), lanes)
    return T.reinterpret(T.reinterpret(scaled, dtype=f"uint32x{lanes}") | sign, dtype=f"float32x{lanes}")


def halve(isa: Isa, x: PrimExpr) -> PrimExpr:
    """float32 to float16, to nearest even; what float16 cannot hold becomes its largest number."""
    lanes = isa.lanes
    largest = T.broadcast(T.float32(65504.0), lanes)
    x = T.max(T.min(x, largest), -largest)
    if isa.native_half:
        return T.cast(x, f"float16x{lanes}")

    def u32(value: int) -> PrimExpr:
        return T.broadcast(T.uint32(value), lanes)

    bits = T.reinterpret(x, dtype=f"uint32x{lanes}")
    magnitude = bits & u32(0x7FFFFFFF)
    odd = (magnitude >> u32(13)) & u32(1)
    normal = (magnitude + u32(0xFFF) + odd - u32(112 << 23)) >> u32(13)
    # Adding one half leaves a subnormal's rounded multiple of 2**-24 in the low bits.
    shifted = T.reinterpret(magnitude, dtype=f"float32x{lanes}") + T.broadcast(T.float32(0.5), lanes)
    subnormal = T.reinterpret(shifted, dtype=f"uint32x{lanes}") - u32(0x3F000000)
    half = T.Select(magnitude < u32(113 << 23), subnormal, normal) | ((bits >> u32(16)) & u32(0x8000))
    return T.reinterpret(T.cast(half, f"uint16x{lanes}"), dtype=f"float16x{lanes}")


def bfloat16_bits(isa: Isa, x: PrimExpr) -> PrimExpr:
    """float32 to bfloat16, to nearest even: its bits in the low half of uint32 lanes. NaNs are not supported."""
    sixteen = T.broadcast(T.uint32(16), isa.lanes)
    bits = T.reinterpret(x, dtype=f"uint32x{isa.lanes}")
    odd = (bits >> sixteen) & T.broadcast(T.uint32(1), isa.lanes)
    return (bits + T.broadcast(T.uint32(0x7FFF), isa.lanes) + odd) >> sixteen


def narrow(isa: Isa, x: PrimExpr, dtype: str) -> PrimExpr:
    """float32 as it is stored in an array of `dtype`, float32 or bfloat16."""
    return T.cast(bfloat16_bits(isa, x), f"uint16x{isa.lanes}") if dtype == "bfloat16" else x


def nearest(isa: Isa, x: PrimExpr, factor: PrimExpr) -> PrimExpr:
    """x * factor to the nearest integer, int32; for magnitudes up to 32767."""
    lanes = isa.lanes
    # Truncation rounds to the nearest where everything is positive and shifted by a half.
    shifted = fma(isa, x, factor, T.broadcast(T.float32(32768.5), lanes))
    return T.cast(shifted, f"int32x{lanes}") - T.broadcast(T.int32(32768), lanes)


def levels_per_unit(isa: Isa, scale: PrimExpr) -> PrimExpr:
    """1 / scale in each lane; where the scale is next to nothing, above all that of zeros, few enough to give zeros."""
    return T.broadcast(T.float32(1) / T.max(scale, T.float32(SMALLEST_SCALE)), isa.lanes)


def side_by_side(isa: Isa, a: PrimExpr, b: PrimExpr) -> PrimExpr:
    """The low bytes of int32 a and b as 16-bit words, b's above a's."""
    low = T.broadcast(T.int32(255), isa.lanes)
    return T.cast((a & low) | ((b & low) << T.broadcast(T.int32(8), isa.lanes)), f"uint16x{isa.lanes}")


def word_pair(isa: Isa, a: PrimExpr, b: PrimExpr) -> PrimExpr:
    """The low halves of int32 a and b, b's above a's, int32."""
    return (a & T.broadcast(T.int32(0xFFFF), isa.lanes)) | (b << T.broadcast(T.int32(16), isa.lanes))


def round_even(isa: Isa, x: PrimExpr, factor: PrimExpr) -> PrimExpr:
    """x * factor to the nearest integer, halves to even, int32; for magnitudes below 2**22.

    Next to 1.5 * 2**23 float32 numbers are the integers, and their last bits count them.
    """
    shifted = fma(isa, x, factor, T.broadcast(T.float32(1.5 * 2**23), isa.lanes))
    return T.reinterpret(shifted, dtype=f"int32x{isa.lanes}") - T.broadcast(T.int32(0x4B400000), isa.lanes)


def lane_sum(buffer: Buffer, lanes: Iterable[int]) -> PrimExpr:
    """The sum of a local buffer's numbers at `lanes`, by halves."""
    return _fold(lambda a, b: a + b, [buffer[i] for i in lanes])


def lane_max(buffer: Buffer, lanes: int) -> PrimExpr:
    """The largest of the first `lanes` numbers of a local buffer."""
    return _fold(T.max, [buffer[i] for i in range(lanes)])


def _fold(combine: Callable[[PrimExpr, PrimExpr], PrimExpr], terms: list[PrimExpr]) -> PrimExpr:
    """The upper half of a vector with the lower one, as long as there are two: each is one instruction."""
    while len(terms) > 1:
        half = (len(terms) + 1) // 2
        terms = [combine(*pair) for pair in zip(terms, terms[half:], strict=False)] + terms[len(terms) - half : half]
    return terms[0]


def exp(isa: Isa, x: PrimExpr) -> PrimExpr:
    """e**x in float32, within 2 units in the last place; below -87 it is 0, and above 88 it stays e**88.

    x = n ln 2 + r with |r| <= ln 2 / 2; e**r by its Taylor polynomial of degree 7, 2**n through the exponent bits.
    """
    lanes = isa.lanes

    def f32(value: float) -> PrimExpr:
        return T.broadcast(T.float32(value), lanes)

    clamped = T.max(T.min(x, f32(88.0)), f32(-87.0))
    # Truncation is the one rounding that every CPU has: shifted above zero it is floor(x log2 e + 1/2).
    power = T.cast(fma(isa, clamped, f32(LOG2_E), f32(128.5)), f"int32x{lanes}") - T.broadcast(T.int32(128), lanes)
    n = T.cast(power, f"float32x{lanes}")
    r = fma(isa, n, f32(-LN_2_LOW), fma(isa, n, f32(-LN_2_HIGH), clamped))
    polynomial = f32(1 / 5040)
    for coefficient in (1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2, 1.0, 1.0):
        polynomial = fma(isa, polynomial, r, f32(coefficient))
    scale = T.reinterpret(
        (power + T.broadcast(T.int32(127), lanes)) << T.broadcast(T.int32(23), lanes), dtype=f"float32x{lanes}"
    )
    return T.Select(x < f32(-87.0), f32(0.0), polynomial * scale)


def exp_nonpositive(isa: Isa, x: PrimExpr) -> PrimExpr:
    """e**x in float32 for x <= 0: exactly 1 at 0, and 0 below -87.7; a third cheaper than `exp`.

    Relative error up to 3e-7 + 8e-8 |x|. x log2 e = n + r with |r| <= 1/2; 2**r by its Taylor polynomial of degree 6,
    2**n through the exponent bits.
    """
    lanes = isa.lanes

    def f32(value: float) -> PrimExpr:
        return T.broadcast(T.float32(value), lanes)

    power = T.max(x * f32(LOG2_E), f32(-127.0))
    exponent = T.cast(power + f32(127.5), f"int32x{lanes}")  # biased, and 0 is the exponent of the number 0
    r = power - (T.cast(exponent, f"float32x{lanes}") - f32(127.0))
    polynomial = f32(math.log(2) ** 6 / math.factorial(6))
    for degree in range(5, -1, -1):
        polynomial = fma(isa, polynomial, r, f32(math.log(2) ** degree / math.factorial(degree)))
    return polynomial * T.reinterpret(exponent << T.broadcast(T.int32(23), lanes), dtype=f"float32x{lanes}")
