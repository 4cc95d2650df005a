"""What a measurement prints: tables for people, and one JSON object on the last line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer

Rounds = Annotated[int, typer.Option(min=1, help="How often to measure; noise only slows, so the best counts.")]

REACHED = (
    ("MB", "mb"),
    ("MMAC", "mmac"),
    ("GB/s", "gb_s"),
    ("GMAC/s", "gmac_s"),
    ("of ceiling", "fraction"),
    ("limit", "limit"),
)
"""Columns that say how near a kernel came to its ceiling: heading, and key of a row."""


def print_json(result: Mapping[str, Any]) -> None:
    """`result` on one line."""
    print(json.dumps(result, allow_nan=False))


def threads_of(result: Mapping[str, Any]) -> str:
    """The threads of a result, in words."""
    return f"{result['threads']} thread{'' if result['threads'] == 1 else 's'}"


def print_table(columns: Sequence[tuple[str, str]], rows: Iterable[Mapping[str, Any]]) -> None:
    """Rows under headings; of a column's heading and key. Words are flush left, numbers flush right."""
    cells = [[_cell(row.get(key)) for _, key in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip([heading for heading, _ in columns], *cells, strict=True)]
    words = [key in ("kernel", "what", "limit") for _, key in columns]
    for line in ([heading for heading, _ in columns], *cells):
        texts = [
            text.ljust(width) if word else text.rjust(width)
            for text, width, word in zip(line, widths, words, strict=True)
        ]
        print("  ".join(texts).rstrip())


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return "" if value is None else str(value)
