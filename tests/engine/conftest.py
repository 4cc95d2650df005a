"""Small random models that must be left as they were found: idle, with every KV block free."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from checkpoints import CompileTiny
from thread_ranks import thread_ranks

from ilmari import LLM
from ilmari.kernels.scheme import SCHEMES

TWO_RANKS = "w8a16 on two ranks"


@pytest.fixture(scope="session", params=[*(name for name in SCHEMES if not name.endswith("_kv8")), TWO_RANKS])
def tiny_artifact(request: pytest.FixtureRequest, compile_tiny: CompileTiny) -> Path:
    """A small random model for this host, in each precision, and for two ranks; only to be read."""
    return compile_tiny("w8a16", tp=2) if request.param == TWO_RANKS else compile_tiny(request.param)


@pytest.fixture
def new_llm(tiny_artifact: Path, ranks_as_threads: None) -> Iterator[Callable[..., LLM]]:  # noqa: ARG001
    """new_llm(**limits): the tiny model under other limits than the usual ones; prompts to 128 tokens, 256 in all."""
    made: list[LLM] = []

    def load(**limits: int) -> LLM:
        made.append(LLM(tiny_artifact, **limits))
        return made[-1]

    yield load
    for llm in made:
        assert_idle(llm)


@pytest.fixture
def ranks_as_threads() -> Iterator[None]:
    """Models of several ranks run in this process."""
    with thread_ranks():
        yield


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
