"""The output head: each rank's logits of its own tokens, and what rank 0 gets to know of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ilmari.engine.candidates import ALL, best, lay_out
from ilmari.engine.linear import Linear
from ilmari.kernels.form import Form
from ilmari.kernels.library import KernelLibrary, aligned_zeros, tensor
from ilmari.kernels.plan import PADDING, Plan, padded
from ilmari.parallel.group import Group

if TYPE_CHECKING:
    import tvm_ffi


class Head:
    """From the last layer's output, after its norm, to logits.

    One rank alone has them all. In a group rank 0 gathers of each row what decides its draw (`candidates.deciding`):
    some of each rank's best tokens, or the whole row.
    """

    def __init__(self, plan: Plan, library: KernelLibrary, params: Mapping[str, tvm_ffi.Tensor], group: Group) -> None:
        self._linear = Linear(plan, library, params, "head")
        self._group = group
        self._parts = [plan.sharding.tokens(rank) for rank in range(plan.tp)]
        self._size = plan.local.vocab_size
        self._vocab_size = plan.config.vocab_size
        self._own = aligned_zeros((0, plan.linears["head"].n), np.float32)
        # One more column than there are tokens is for candidates that are none.
        self._rows = aligned_zeros((0, padded(self._vocab_size + 1, PADDING)), np.float32)

    @property
    def nothing(self) -> NDArray[np.float32]:
        """No rows."""
        return self._rows[:0, : self._vocab_size]

    def __call__(
        self, form: Form, normed: tuple[tvm_ffi.Tensor, ...], deciding: NDArray[np.intp]
    ) -> NDArray[np.float32]:
        """Logits [rows, vocab] on rank 0, no rows on the others; valid until the next call.

        deciding: of each row, how many of the best tokens are enough; see `candidates`. Each row begins on a vector's
        boundary.
        """
        own = self._own = _with_rows(self._own, len(deciding))
        self._linear(form, normed, tensor(own[: len(deciding)]))
        if self._group.size == 1:
            return own[: len(deciding), : self._vocab_size]
        if self._group.rank == 0:
            self._rows = _with_rows(self._rows, len(deciding))
        # A candidate is twice the size of a logit.
        few = (deciding != ALL) & (2 * deciding < self._size)
        if few.any():
            self._gather_best(np.flatnonzero(few), int(deciding[few].max()))
        if not few.all():
            self._gather_whole(np.flatnonzero(~few))
        return self._rows[: len(deciding), : self._vocab_size] if self._group.rank == 0 else self.nothing

    def _gather_best(self, rows: NDArray[np.intp], count: int) -> None:
        tokens = self._parts[self._group.rank]
        candidates = self._group.gather(best(self._own[rows, : len(tokens)], tokens, count, self._vocab_size))
        if candidates:
            self._rows[rows] = lay_out(candidates, self._rows.shape[1])

    def _gather_whole(self, rows: NDArray[np.intp]) -> None:
        pieces = self._group.gather(self._own[rows, : self._size])
        if pieces:
            for tokens, piece in zip(self._parts, pieces, strict=True):
                self._rows[rows, tokens.start : tokens.stop] = piece[:, : len(tokens)]


def _with_rows(buffer: NDArray[np.float32], rows: int) -> NDArray[np.float32]:
    """`buffer`, or a longer one if it has not so many rows."""
    return buffer if len(buffer) >= rows else aligned_zeros((rows, buffer.shape[1]), np.float32)
