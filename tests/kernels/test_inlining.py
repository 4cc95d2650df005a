"""The quick search for the parser of inline functions: the same kernels as by TVM's own, which is there again after."""

import pytest
import tvm
from packed import linear_shape
from tvm.script.parser.core.parser import ScriptMacro

from ilmari.kernels.form import HALVES
from ilmari.kernels.inlining import quick_inlining
from ilmari.kernels.isa import isa_named
from ilmari.kernels.layer_input import norm
from ilmari.kernels.linear_halves import linear_halves
from ilmari.kernels.schedule import each_row

ISA = isa_named("avx512-vnni")


@pytest.mark.parametrize(
    ("generate", "arguments"),
    [(norm, (HALVES, 96, 1e-5)), (linear_halves, (linear_shape(ISA, "w8a16", "o", 96),))],
    ids=["norm", "linear"],
)
def test_same_kernel(generate, arguments):
    """Inline functions in inline functions, with others as arguments."""
    want = generate(ISA, *arguments)
    with quick_inlining():
        got = generate(ISA, *arguments)
    tvm.ir.assert_structural_equal(got, want)


def test_it_ends_with_its_block():
    own = ScriptMacro._find_parser_def
    with pytest.raises(AssertionError, match="outside a kernel"), quick_inlining():
        each_row(1, None)
    assert ScriptMacro._find_parser_def is own
