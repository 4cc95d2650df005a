"""A linear layer at run time: its packed weights and the kernels that multiply by them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ilmari.kernels.form import Form
from ilmari.kernels.library import KernelLibrary
from ilmari.kernels.plan import Plan

if TYPE_CHECKING:
    import tvm_ffi


class Linear:
    """y (+)= x @ W.T for the rows of one step."""

    def __init__(
        self, plan: Plan, library: KernelLibrary, params: Mapping[str, tvm_ffi.Tensor], name: str, prefix: str = ""
    ) -> None:
        self._kernels = {form: library[f"linear_{name}_{form.name}"] for _, form in plan.forms}
        self._weights = tuple(params[shape.name] for shape in plan.linear_tensors(name, prefix))

    def __call__(self, form: Form, x: tuple[tvm_ffi.Tensor, ...], *y: tvm_ffi.Tensor) -> None:
        """x: the arrays of `form` for k inputs; y: [rows, n] float32, or the arrays that a kernel makes of it."""
        self._kernels[form](*x, *self._weights, *y)
