"""Small random models that must be left as they were found: idle, with every KV block free."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ilmari import LLM


@pytest.fixture
def new_llm(tiny_artifact: Path) -> Iterator[Callable[..., LLM]]:
    """new_llm(**limits): the tiny model under other limits than the usual ones; prompts to 128 tokens, 256 in all."""
    made: list[LLM] = []

    def load(**limits: int) -> LLM:
        made.append(LLM(tiny_artifact, **limits))
        return made[-1]

    yield load
    for llm in made:
        assert_idle(llm)


@pytest.fixture
def llm(new_llm: Callable[..., LLM]) -> LLM:
    """The tiny model under the usual limits."""
    return new_llm()


def assert_idle(llm: LLM) -> None:
    """Nothing runs or waits, and each block is free."""
    stats = llm.engine.stats()
    assert not llm.engine.has_work
    assert (stats.running, stats.waiting, stats.kv_blocks_used) == (0, 0, 0)
    assert stats.kv_blocks == llm.engine.cache.blocks
