"""Compiled models to hold against the reference."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ilmari import LLM
from ilmari.compile.config import CompileConfig
from ilmari.compile.pipeline import compile_model

MAX_PROMPT_LEN, MAX_SEQ_LEN = 256, 384


@pytest.fixture(scope="session")
def compile_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path, str, str], LLM]:
    """compile_checkpoint(folder, scheme, target): the checkpoint in `folder`, compiled and loaded."""

    def compile_and_load(folder: Path, scheme: str, target: str) -> LLM:
        config = CompileConfig(
            source=Path("none"),
            name="random",
            checkpoint=folder,
            max_prompt_len=MAX_PROMPT_LEN,
            max_seq_len=MAX_SEQ_LEN,
            scheme=scheme,
            output=tmp_path_factory.mktemp("artifact") / f"{scheme}-{target}",
            notices=(),
        )
        return LLM(compile_model(config, target=target, report=lambda *_: None))

    return compile_and_load
