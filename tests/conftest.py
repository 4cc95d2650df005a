"""Fixtures that every test may use."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ilmari.demo.download import fetch_weights
from ilmari.demo.gguf_checkpoint import write_checkpoint
from ilmari.errors import DownloadError

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of tokenizers, data and vendor files that lies beside the repository."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is absent: real tokenizers, data and vendor files are not part of the repository")
    return SHARED


@pytest.fixture(scope="session")
def demo_gguf() -> Path:
    """The GGUF file of the demo weights, in the cache; downloaded on first use."""
    try:
        return fetch_weights(lambda *_: None)
    except DownloadError as error:
        pytest.skip(f"the demo weights cannot be had: {error}")


@pytest.fixture(scope="session")
def demo_checkpoint(demo_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The demo weights as an InternLM2 folder: converted afresh, so that no old conversion is ever tested."""
    parent = tmp_path_factory.mktemp("demo")
    write_checkpoint(demo_gguf, parent / "smollm2-135m", lambda *_: None)
    yield parent / "smollm2-135m"
    shutil.rmtree(parent)
