"""A linear layer at run time: its packed weights and the kernels that multiply by them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ilmari.engine.workspace import Views
from ilmari.kernels.library import KernelLibrary
from ilmari.kernels.plan import Plan
from ilmari.kernels.schedule import PREFILL_ROWS

if TYPE_CHECKING:
    import tvm_ffi


class Linear:
    """y (+)= x @ W.T for the rows of one step."""

    def __init__(
        self, plan: Plan, library: KernelLibrary, params: Mapping[str, tvm_ffi.Tensor], name: str, prefix: str = ""
    ) -> None:
        self._kernel = library[f"linear_{name}"]
        self._weights = [params[shape.name] for shape in plan.linear_tensors(name, prefix)]
        self._k = plan.linears[name].k
        self._quantize = library[f"quantize_{self._k}"] if plan.byte_dot else None
        self._round = library[f"round_{self._k}"] if plan.bf16_dot else None
        self._prefill = library[f"linear_{name}_prefill"] if plan.bf16_dot else None

    def __call__(self, x: tvm_ffi.Tensor, y: tvm_ffi.Tensor, views: Views) -> None:
        """x [rows, k], y [rows, n], float32; `views` lends room for the activations in fewer bits."""
        if self._round and self._prefill and views.rows >= PREFILL_ROWS:
            self._round(x, views.rounded[self._k])
            self._prefill(views.rounded[self._k], *self._weights, y)
            return
        if self._quantize is None:
            self._kernel(x, *self._weights, y)
            return
        self._quantize(x, views.quantized[self._k], views.row_scale)
        self._kernel(views.quantized[self._k], *self._weights, views.row_scale, y)
