"""Packed weights: against their definition, number by number."""

import numpy as np
import pytest
from packed import INTEGER_ISAS, byte_shape, packed_bytes, packed_weight

from ilmari.compile.packing import pack, pack_bytes
from ilmari.kernels.plan import LinearShape


@pytest.mark.parametrize("isa", INTEGER_ISAS, ids=lambda isa: isa.name)
@pytest.mark.parametrize("vectors", [None, 1])
def test_bytes(isa, vectors, rng):
    shape = byte_shape(isa, 100, 96, False, vectors)
    weight = rng.integers(-128, 128, (shape.n, shape.k)).astype(np.int8)
    np.testing.assert_array_equal(pack_bytes(weight, shape, isa.byte_offset), packed_bytes(weight, shape, isa))


def test_floats(rng):
    shape = LinearShape("any", 48, 32, 16, 1, 1, False)
    weight = rng.standard_normal((shape.n, shape.k)).astype(np.float16)
    np.testing.assert_array_equal(pack(weight, shape), packed_weight(weight, shape))
