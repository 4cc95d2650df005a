"""What a step or a kernel cannot do without, and so the least time that it takes on a machine of known rates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ilmari.artifact.params import step_params_bytes
from ilmari.bench.ceilings import Rates
from ilmari.kernels.form import BFLOAT16, FLOAT32, GROUPS, HALVES, PAIRS, WORDS
from ilmari.kernels.plan import Plan
from ilmari.model.cost import linear_macs

Limit = Literal["read", "multiply"]


@dataclass(frozen=True)
class Arithmetic:
    """How multiply-adds are made: an instruction (of `ceilings.INSTRUCTIONS`) and its products for each of them."""

    instruction: str
    products: int


FLOAT = Arithmetic("fp32", 1)
WORD = Arithmetic("int16", 1)

LINEARS = {
    FLOAT32: FLOAT,
    BFLOAT16: Arithmetic("bf16", 1),
    HALVES: Arithmetic("int8", 2),  # the two bytes of an activation
    # A 16-bit product takes as long as two byte products. `linear_pairs` does with fewer than one for each multiply-add
    # where that pays, so it may exceed this ceiling, which is that of any direct computation.
    PAIRS: Arithmetic("int8", 2),
    WORDS: WORD,
    GROUPS: Arithmetic("int8", 1),
}
"""How linear layers multiply, by the form of their input; attention multiplies by `WORD` or `FLOAT`."""


@dataclass(frozen=True)
class Cost:
    """Bytes that must pass between memory and cores, and multiply-adds, all of one arithmetic."""

    bytes: float
    macs: float = 0
    arithmetic: Arithmetic = FLOAT

    def __add__(self, other: Cost) -> Cost:
        assert self.arithmetic == other.arithmetic
        return Cost(self.bytes + other.bytes, self.macs + other.macs, self.arithmetic)

    def _times(self, rates: Rates) -> dict[Limit, float]:
        products = self.macs * self.arithmetic.products
        # Code for a lesser CPU runs on a better one, never the other way: the instruction has a rate.
        multiply = products / rates.gmac_s[self.arithmetic.instruction] / 1e9
        return {"read": self.bytes / rates.read_gb_s / 1e9, "multiply": multiply}

    def seconds(self, rates: Rates) -> float:
        """The least time at these rates: the longer of reading and multiplying, as they can overlap."""
        return max(self._times(rates).values())

    def limit(self, rates: Rates) -> Limit:
        """Which of the two it is."""
        times = self._times(rates)
        return "read" if times["read"] >= times["multiply"] else "multiply"

    def reached(self, seconds: float, rates: Rates) -> dict[str, float | str]:
        """What it means to take `seconds`: 10^6 bytes and 10^6 multiply-adds, 10^9 of each per second, the fraction of
        the ceiling at these rates, and which ceiling that is."""
        return {
            "mb": self.bytes / 1e6,
            "mmac": self.macs / 1e6,
            "gb_s": self.bytes / seconds / 1e9,
            "gmac_s": self.macs / seconds / 1e9,
            "fraction": self.seconds(rates) / seconds,
            "limit": self.limit(rates),
        }


@dataclass(frozen=True)
class Span:
    """New tokens of one sequence in a step: `rows` of them, after which `length` are cached; `outputs` get logits."""

    rows: int
    length: int
    outputs: int

    @property
    def visible(self) -> int:
        """Cached tokens that the rows attend to, themselves included, summed over the rows."""
        return self.rows * self.length - self.rows * (self.rows - 1) // 2


@dataclass(frozen=True)
class Load:
    """One step's work."""

    spans: tuple[Span, ...]

    @property
    def rows(self) -> int:
        """Tokens that are computed."""
        return sum(span.rows for span in self.spans)

    @property
    def outputs(self) -> int:
        """Tokens that get logits."""
        return sum(span.outputs for span in self.spans)

    @property
    def visible(self) -> int:
        """Pairs of a token and a cached one that it attends to."""
        return sum(span.visible for span in self.spans)

    @property
    def cached(self) -> int:
        """Cached tokens that are attended to, each counted once."""
        return sum(span.length for span in self.spans)

    def of_outputs(self) -> Load:
        """The same for those tokens alone that get logits: what the end of the last layer computes."""
        return Load(tuple(Span(span.outputs, span.length, span.outputs) for span in self.spans if span.outputs))


def step_cost(plan: Plan, load: Load) -> Cost:
    """What one step cannot do without on a rank, however its kernels are written.

    Bytes: all parameters but the embedding table once, and the keys and values of all cached tokens once. Activations
    are not counted, they could stay in caches. Multiply-adds: those of the linear layers; in the last layer, past its
    keys and values, and in the head only those of tokens that get logits. Attention, norms and sampling count as no
    work: the time they take lowers the fraction that a step reaches.
    """
    return Cost(
        step_params_bytes(plan) + load.cached * plan.kv_bytes_per_token,
        linear_macs(plan.local, load.rows, load.outputs),
        LINEARS[plan.form(load.rows)],
    )
