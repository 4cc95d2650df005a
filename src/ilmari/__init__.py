"""Compile InternLM checkpoints ahead of time to the CPU at hand, and run them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ilmari.engine.llm import LLM
    from ilmari.engine.sampling_params import SamplingParams, StructuredOutputs

__all__ = ["LLM", "SamplingParams", "StructuredOutputs"]

_HOMES = {
    "LLM": "ilmari.engine.llm",
    "SamplingParams": "ilmari.engine.sampling_params",
    "StructuredOutputs": "ilmari.engine.sampling_params",
}


def __getattr__(name: str) -> Any:
    """Import the public names when they are first used: `ilmari --help` needs no engine."""
    if name not in _HOMES:
        raise AttributeError(f"module 'ilmari' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
