"""Servers with a small random model whose replies may be long, and the official clients for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from checkpoints import CompileTiny
from live_server import ILMARI, SECONDS, LiveServer, StartServer, serve_command
from openai import OpenAI


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """No test here may hang for long, unless it says so."""
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(180))


@pytest.fixture(scope="session")
def served_artifact(compile_tiny: CompileTiny) -> Path:
    """The model: prompts of up to 1024 tokens, replies of up to thousands."""
    return compile_tiny("w8a16", lengths=(1024, 8192), max_position=8192)


@pytest.fixture(scope="module")
def start_server(served_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """A function that starts a server with the flags it is given; those that still run end with the module."""
    with ExitStack() as stack:

        def start(*flags: str | Path, program: tuple[str, ...] = ILMARI) -> LiveServer:
            log = tmp_path_factory.mktemp("server") / "log"
            server = LiveServer(serve_command(served_artifact, *flags, program=program), log)
            stack.callback(server.kill)
            return server

        yield start


@pytest.fixture(scope="session")
def server(served_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server with the default flags, for every test that leaves it as it was."""
    server = LiveServer(serve_command(served_artifact), tmp_path_factory.mktemp("server") / "log")
    try:
        yield server
        server.wait_idle()
        server.stop()
    finally:
        server.kill()


@pytest.fixture(scope="session")
def client(server: LiveServer) -> Iterator[OpenAI]:
    """The official client."""
    with OpenAI(base_url=f"{server.url}/v1", api_key="none", timeout=SECONDS, max_retries=0) as client:
        yield client
