"""What a field of a request must be, in words and as a test, and how it is stored."""

import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from ilmari.errors import RequestError


class _Brief(reprlib.Repr):
    """A short repr that also survives integers which Python refuses to print."""

    def repr_int(self, x: int, level: int) -> str:
        return super().repr_int(x, level) if x.bit_length() <= 64 else f"an integer of {x.bit_length()} bits"


def refusal(name: str, found: object, expected: str) -> RequestError:
    """The sentence for a field `name` that is `found` and had to be `expected`."""
    return RequestError(f"{name} is {_Brief().repr(found)}; it must be {expected}.")


@dataclass(frozen=True)
class Scalar:
    """One value: what it must be, in words and as a test, and the plain type that is stored."""

    expected: str
    allows: Callable[[Any], bool]
    store: Callable[[Any], object]

    def read(self, name: str, value: object) -> object:
        if not self.allows(value):
            raise refusal(name, value, self.expected)
        return self.store(value)


@dataclass(frozen=True)
class Tuple:
    """`least` to `most` values, stored as a tuple; a lone string counts as one value, None as `none`."""

    most: int
    element: Scalar
    least: int = 0
    none: tuple[object, ...] | None = ()

    def read(self, name: str, value: object) -> tuple[object, ...] | None:
        if value is None:
            return self.none
        values = (value,) if isinstance(value, str) else value
        count = f"{self.least} to {self.most}" if self.least else f"at most {self.most}"
        expected = f"a list of {count}, each {self.element.expected}"
        if not isinstance(values, Sequence):
            raise refusal(name, value, expected)
        if not self.least <= len(values) <= self.most:
            raise RequestError(f"{name} has {len(values)} entries; it must be {expected}.")
        return tuple(self.element.read(f"{name}[{index}]", entry) for index, entry in enumerate(values))


@dataclass(frozen=True)
class Table:
    """Up to `most` values by token id, stored as a dict; none of them is None."""

    most: int
    key: Scalar
    element: Scalar

    def read(self, name: str, value: object) -> dict[object, object] | None:
        expected = f"a mapping of at most {self.most}, each from {self.key.expected} to {self.element.expected}"
        if value is not None and not isinstance(value, Mapping):
            raise refusal(name, value, expected)
        if not value:
            return None
        if len(value) > self.most:
            raise RequestError(f"{name} has {len(value)} entries; it must be {expected}.")
        return {
            self.key.read(f"{name}'s key", key): self.element.read(f"{name}[{_Brief().repr(key)}]", entry)
            for key, entry in value.items()
        }


def is_a(kind: type, value: object) -> bool:
    """Whether `value` is a `kind`, numpy's scalars included; True is no number."""
    return isinstance(value, kind) and not isinstance(value, bool)


def integer(low: int, high: int) -> Scalar:
    """A whole number within bounds, stored as int."""
    return Scalar(f"an integer from {low} to {high}", lambda value: is_a(Integral, value) and low <= value <= high, int)


def number(low: float, high: float) -> Scalar:
    """A real number within bounds, stored as float."""
    return Scalar(f"a number from {low} to {high}", lambda value: is_a(Real, value) and low <= value <= high, float)


def or_none(rule: Scalar) -> Scalar:
    """What `rule` takes, or None."""
    return Scalar(
        f"{rule.expected}, or None",
        lambda value: value is None or rule.allows(value),
        lambda value: None if value is None else rule.store(value),
    )
