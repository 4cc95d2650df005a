"""`vastgenx serve` with the vendor's flags, as the recipe types it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_server import SECONDS, VASTGENX, LiveServer, wait_until
from openai import OpenAI
from requests_to_tiny import HELLO, body, chat, for_client


@pytest.fixture(scope="module")
def vendors(served_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """The recipe's command, but for the port."""
    flags = ("--host", "0.0.0.0", "--port", "0", "--batch_size", "3", "--llm_devices", "[0,1,2,3]")
    command = (*VASTGENX, "serve", "--model", served_artifact, *flags)
    server = LiveServer(command, tmp_path_factory.mktemp("vastgenx") / "log")
    try:
        yield server
        server.stop()
    finally:
        server.kill()


def test_it_answers(vendors: LiveServer, client: OpenAI) -> None:
    with OpenAI(base_url=f"{vendors.url}/v1", api_key="none", timeout=SECONDS, max_retries=0) as asker:
        (model,) = asker.models.list().data
        assert chat(asker, model=model.id).choices[0].message == chat(client).choices[0].message
        with asker.chat.completions.create(
            **for_client(body(model=model.id, messages=HELLO, n=5, stream=True, max_tokens=8000))
        ) as stream:
            next(iter(stream))
            wait_until(lambda: vendors.load == (3, 2))
    vendors.wait_idle()


def test_it_says_what_has_no_meaning(vendors: LiveServer) -> None:
    assert "--llm_devices" in vendors.log.read_text()


@pytest.mark.parametrize("devices", ["0", "[]", "[-1]", "[a]", "cpu"])
def test_devices_that_are_none(served_artifact: Path, devices: str) -> None:
    command = [*VASTGENX, "serve", "--model", str(served_artifact), "--port", "0", "--llm_devices", devices]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
