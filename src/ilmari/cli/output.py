"""What a verb prints about something measured: tables for people, and one JSON object on the last line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_WORDS = frozenset({"kernel", "what", "limit", "model", "scheme", "subject", "category"})
"""Keys of columns that hold words."""


def print_json(result: Mapping[str, Any]) -> None:
    """`result` on one line."""
    print(json.dumps(result, allow_nan=False))


def print_table(columns: Sequence[tuple[str, str]], rows: Iterable[Mapping[str, Any]]) -> None:
    """Rows under headings; of a column's heading and key. Words are flush left, numbers flush right."""
    cells = [[_cell(row.get(key)) for _, key in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip([heading for heading, _ in columns], *cells, strict=True)]
    for line in ([heading for heading, _ in columns], *cells):
        texts = [
            text.ljust(width) if key in _WORDS else text.rjust(width)
            for text, width, (_, key) in zip(line, widths, columns, strict=True)
        ]
        print("  ".join(texts).rstrip())


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return "" if value is None else str(value)
