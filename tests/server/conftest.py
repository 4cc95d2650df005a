"""The application over a fake engine, in this process; and tokenizers with InternLM2's markers, and without them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from checkpoints import write_checkpoint
from fake_engine import MAX_SEQ_LEN, FakeEngine, MakeApp
from fastapi import FastAPI
from starlette.testclient import TestClient
from tool_tokenizers import convert

from ilmari.checkpoint.tokenizer import tokenizer_files
from ilmari.model.chat import ChatTemplate
from ilmari.model.tokenizer import Tokenizer
from ilmari.server.app import create_app
from ilmari.server.options import ServerOptions
from ilmari.server.served_model import Models, ServedModel


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer with a token for each byte, and a chat template."""
    checkpoint = write_checkpoint(tmp_path_factory.mktemp("server") / "tiny", layers=1, with_tokenizer=True)
    folder = tmp_path_factory.mktemp("tokenizer")
    for name, content in tokenizer_files(checkpoint, 320).items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def engine(tokenizer_folder: Path) -> FakeEngine:
    """An engine that is ready."""
    tokenizer = Tokenizer.load(tokenizer_folder)
    template = ChatTemplate.load(tokenizer_folder, tokenizer.bos_token, tokenizer.eos_token)
    return FakeEngine(tokenizer, template)


@pytest.fixture
def make_app(engine: FakeEngine) -> MakeApp:
    """A function that makes an application with the options it is given."""

    def make_app(most_replies: int = 1000, **options: Any) -> FastAPI:
        model = ServedModel("tiny", engine.client, MAX_SEQ_LEN)
        return create_app(ServerOptions(**options), Models({"tiny": model}), most_replies)

    return make_app


@pytest.fixture
def client(make_app: MakeApp) -> TestClient:
    """A client of an application with the default options."""
    return TestClient(make_app(), raise_server_exceptions=False)


@pytest.fixture(scope="session")
def internlm2(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return convert(shared / "tokenizers" / "internlm2", tmp_path_factory.mktemp("internlm2"), 92544)


@pytest.fixture(scope="session")
def smollm(demo_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return convert(demo_checkpoint, tmp_path_factory.mktemp("smollm"), 49152)
