"""Register tiles of byte dot products: which lanes of the accumulators belong to which row and channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tvm.script import tirx as T

from ilmari.kernels.byte_dot import every_lane
from ilmari.kernels.isa import Isa

if TYPE_CHECKING:
    from tvm.tirx import Buffer, PrimExpr


@dataclass(frozen=True)
class DotTile:
    """Accumulators, of `Isa.lanes` each, for rows of activations and a block of channels.

    As many rows as one instruction multiplies, a band, share `vectors` of them. An odd last row is paired with itself,
    and what that gives is not stored: a matrix product then does as much as dot products would.
    """

    isa: Isa
    block: int

    @property
    def vectors(self) -> int:
        """Accumulators of a band."""
        return self.block * self.isa.dot_rows // self.isa.lanes

    def bands(self, rows: int) -> int:
        """Bands of so many rows."""
        return -(-rows // self.isa.dot_rows)

    def of_row(self, i: PrimExpr, j: PrimExpr) -> PrimExpr:
        """Where the sums of row i and vector j of the channels are among all accumulators."""
        height, lanes = self.isa.dot_rows, self.isa.lanes
        return T.ramp((i // height * self.vectors + j * height) * lanes + i % height, height, lanes)

    def of_band(
        self, array: Buffer, first: PrimExpr, rows: int, band: PrimExpr, column: PrimExpr, count: int = 1
    ) -> PrimExpr:
        """array[first + i, column:column + count] of a band's rows i, side by side; of a tile of `rows` rows."""
        height = self.isa.dot_rows
        columns = T.ramp(column, 1, count) if count > 1 else column
        parts = [array[first + T.min(band * height + r, rows - 1), columns] for r in range(height)]
        return parts[0] if height == 1 else T.Shuffle(parts, list(range(height * count)))

    def in_lanes(self, numbers: PrimExpr) -> PrimExpr:
        """One number for each row of a band, in the lanes of that row."""
        height, lanes = self.isa.dot_rows, self.isa.lanes
        if height == 1:
            return T.broadcast(numbers, lanes)
        return T.Shuffle([numbers] * (lanes // height), list(range(lanes)))

    def operand(self, words: PrimExpr) -> PrimExpr:
        """A step's inputs of a band's rows, bytes in 16-bit words, as the instruction takes them."""
        if self.isa.dot_rows == 1:
            return every_lane(self.isa, words, "int8")
        return T.reinterpret(words, dtype=f"int8x{4 * self.isa.lanes}")
