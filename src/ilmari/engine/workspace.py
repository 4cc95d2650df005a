"""Activations between kernels: allocated once, viewed by as many rows as a step has."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ilmari.kernels.library import aligned_zeros, tensor
from ilmari.kernels.plan import QUANTIZED_CHUNK, Plan

if TYPE_CHECKING:
    import tvm_ffi


@dataclass(frozen=True)
class Views:
    """The first `rows` rows of every buffer, for kernels; all float32 but `quantized` and `rounded`.

    hidden: the residual stream; normed: its norm; qkv, q, attended, gate_up, activated: as the kernels of those names
    write them; quantized: by input width, the bytes of an int8 product's activations; row_scale: their scales;
    rounded: by input width, a bfloat16 product's activations, as uint16.
    """

    rows: int
    hidden: tvm_ffi.Tensor
    normed: tvm_ffi.Tensor
    qkv: tvm_ffi.Tensor
    q: tvm_ffi.Tensor
    attended: tvm_ffi.Tensor
    gate_up: tvm_ffi.Tensor
    activated: tvm_ffi.Tensor
    row_scale: tvm_ffi.Tensor
    quantized: dict[int, tvm_ffi.Tensor]
    rounded: dict[int, tvm_ffi.Tensor]


class Workspace:
    """Buffers for steps of up to `rows` rows; `hidden` and `q` are also there as arrays, to pick rows from."""

    def __init__(self, plan: Plan, rows: int) -> None:
        config = plan.config

        def buffer(columns: int) -> NDArray[np.float32]:
            return aligned_zeros((rows, columns), np.float32)

        self.hidden = buffer(config.hidden_size)
        self.q = buffer(config.q_size)
        self._normed = buffer(config.hidden_size)
        self._qkv = buffer(plan.linears["qkv"].n)
        self._attended = buffer(config.q_size)
        self._gate_up = buffer(plan.linears["gate_up"].n)
        self._activated = buffer(plan.intermediate)
        self._row_scale = aligned_zeros((rows,), np.float32)
        widths = {shape.k for shape in plan.linears.values()}
        self._quantized = {
            k: aligned_zeros((rows, k // QUANTIZED_CHUNK, 2, QUANTIZED_CHUNK), np.uint8)
            for k in widths
            if plan.byte_dot
        }
        self._rounded = {k: aligned_zeros((rows, k), np.uint16) for k in widths if plan.bf16_dot}
        # Decoding asks for the same few sizes again and again.
        self.views = lru_cache(maxsize=64)(self._views)

    def _views(self, rows: int) -> Views:
        return Views(
            rows=rows,
            hidden=tensor(self.hidden[:rows]),
            normed=tensor(self._normed[:rows]),
            qkv=tensor(self._qkv[:rows]),
            q=tensor(self.q[:rows]),
            attended=tensor(self._attended[:rows]),
            gate_up=tensor(self._gate_up[:rows]),
            activated=tensor(self._activated[:rows]),
            row_scale=tensor(self._row_scale[:rows]),
            quantized={k: tensor(array[:rows]) for k, array in self._quantized.items()},
            rounded={k: tensor(array[:rows]) for k, array in self._rounded.items()},
        )
