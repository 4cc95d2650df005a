"""Words and options that the verbs of `ilmari bench` share."""

from __future__ import annotations

from collections.abc import Mapping
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


def threads_of(result: Mapping[str, Any]) -> str:
    """The threads of a result, in words."""
    return f"{result['threads']} thread{'' if result['threads'] == 1 else 's'}"
