"""Two results side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ilmari.errors import DataError

_PLACE = ("input_len", "output_len", "max_concurrency", "request_rate")
"""What makes two points the same."""


def ratios(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each point that both results measured: every figure of the second over that of the first.

    Raises:
        DataError: they have no point in common.
    """
    others = {_place(point): point for point in second["points"] if "skipped" not in point}
    pairs = [
        (point, others[_place(point)])
        for point in first["points"]
        if "skipped" not in point and _place(point) in others
    ]
    if not pairs:
        raise DataError(
            "The two results have no point in common; compare those of the same input and output lengths and the same "
            "clients or rate."
        )
    return [{name: one.get(name) for name in _PLACE} | _ratios(one, other) for one, other in pairs]


def _place(point: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(point.get(name) for name in _PLACE)


def _ratios(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: other[name] / value
        for name, value in one.items()
        if name not in (*_PLACE, "num_prompts") and _is_number(value) and value and _is_number(other.get(name))
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
