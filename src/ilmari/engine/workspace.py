"""Activations between kernels: allocated once, viewed by as many rows as a step has."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ilmari.kernels.form import FLOAT32, Form
from ilmari.kernels.library import aligned_zeros, tensor
from ilmari.kernels.plan import Plan

if TYPE_CHECKING:
    import tvm_ffi


@dataclass(frozen=True)
class Views:
    """The first rows of every buffer, for kernels.

    hidden: the residual stream; qkv, q, attended, gate_up: as the kernels of those names write them; all float32.
    form: how the linear layers' inputs lie in memory at this number of rows. normed, mixed, activated: those inputs,
    the arrays of `form` each: the norm of hidden, what was attended to, and the feed-forward block's gated activations.
    """

    rows: int
    hidden: tvm_ffi.Tensor
    qkv: tvm_ffi.Tensor
    q: tvm_ffi.Tensor
    attended: tvm_ffi.Tensor
    gate_up: tvm_ffi.Tensor
    form: Form
    normed: tuple[tvm_ffi.Tensor, ...]
    mixed: tuple[tvm_ffi.Tensor, ...]
    activated: tuple[tvm_ffi.Tensor, ...]


class Workspace:
    """Buffers for steps of up to `rows` rows; `hidden` and `q` are also there as arrays, to pick rows from."""

    def __init__(self, plan: Plan, rows: int) -> None:
        config = plan.local
        self._plan = plan

        def buffer(columns: int) -> NDArray[np.float32]:
            return aligned_zeros((rows, columns), np.float32)

        def inputs(k: int) -> dict[Form, tuple[NDArray[Any], ...]]:
            return {
                form: tuple(aligned_zeros((rows, part.columns(k)), part.dtype) for part in form.parts)
                for _, form in plan.forms
            }

        self.hidden = buffer(config.hidden_size)
        self.q = buffer(config.q_size)
        self._qkv = buffer(plan.linears["qkv"].n)
        self._attended = buffer(config.q_size)
        self._gate_up = buffer(plan.linears["gate_up"].n)
        self._normed = inputs(config.hidden_size)
        self._mixed = inputs(config.q_size)
        if FLOAT32 in self._mixed:
            self._mixed[FLOAT32] = (self._attended,)  # as it is
        self._activated = inputs(plan.intermediate)
        # Decoding asks for the same few sizes again and again.
        self.views = lru_cache(maxsize=64)(self._views)

    def _views(self, rows: int) -> Views:
        form = self._plan.form(rows)
        return Views(
            rows=rows,
            hidden=tensor(self.hidden[:rows]),
            qkv=tensor(self._qkv[:rows]),
            q=tensor(self.q[:rows]),
            attended=tensor(self._attended[:rows]),
            gate_up=tensor(self._gate_up[:rows]),
            form=form,
            normed=tuple(tensor(array[:rows]) for array in self._normed[form]),
            mixed=tuple(tensor(array[:rows]) for array in self._mixed[form]),
            activated=tuple(tensor(array[:rows]) for array in self._activated[form]),
        )
