"""Functions in LLVM's own language, for what TVM's expressions do not reach: linked into a kernel and inlined."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tvm

if TYPE_CHECKING:
    from tvm.tirx import PrimFunc


def with_llvm(kernel: PrimFunc, source: str) -> PrimFunc:
    """`kernel`, which may call the functions that `source` defines."""
    return kernel.with_body(tvm.tirx.AttrStmt("default", "pragma_import_llvm", source, kernel.body))
