"""Tokenizers with InternLM2's markers, and without them."""

from pathlib import Path

import pytest
from tool_tokenizers import convert

from ilmari.model.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def internlm2(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return convert(shared / "tokenizers" / "internlm2", tmp_path_factory.mktemp("internlm2"), 92544)


@pytest.fixture(scope="session")
def smollm(demo_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return convert(demo_checkpoint, tmp_path_factory.mktemp("smollm"), 49152)
