"""A whole conversation with the demo model, from `ilmari serve`'s own page."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from chat_page import OpenPage
from live_server import LiveServer, serve_command

from ilmari.compile.config import load_config
from ilmari.compile.pipeline import compile_model
from ilmari.demo.recipe import write_recipe

pytestmark = [
    pytest.mark.browser,
    pytest.mark.demo_model,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("kernels_compiled_once"),
]

KEY = "sk-of-the-reader"


@pytest.fixture(scope="module")
def demo(browser: object, demo_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server of the demo's int8 model that wants a key."""
    assert browser
    folder = tmp_path_factory.mktemp("demo_page")
    artifact = compile_model(load_config(write_recipe(folder, demo_checkpoint, "int8")), report=lambda *_: None)
    server = LiveServer(serve_command(artifact, "--api-key", KEY), folder / "log")
    try:
        yield server
        server.stop()
    finally:
        server.kill()
        shutil.rmtree(folder)


def test_a_conversation(demo: LiveServer, open_page: OpenPage) -> None:
    chat = open_page(demo.url)
    chat.page.locator("#banner").filter(has_text="asks for an API key").wait_for()
    chat.button("Enter a key").click()
    chat.page.get_by_label("API key").fill(KEY)
    chat.page.get_by_label("Temperature").fill("0")
    chat.page.get_by_label("Most tokens in a reply").fill("60")
    chat.button("Save").click()
    chat.page.locator("#banner").wait_for(state="hidden")
    chat.talk("What is the capital of France?")
    assert "Paris" in chat.turns()[-1][1]
    assert "tokens/s" in chat.last.locator(".stats").inner_text()
    assert "≈" not in chat.last.locator(".stats").inner_text()

    chat.button("Settings").click()
    chat.page.get_by_label("Most tokens in a reply").fill("")
    # Whatever is said once is said again and again: the reply cannot be over before it is stopped.
    chat.page.get_by_label("Frequency penalty").fill("-2")
    chat.button("Save").click()
    chat.ask("Tell me a long story about the sea.")
    chat.last.locator(".markdown").filter(has_text=re.compile(".{40}")).wait_for()
    chat.button("Stop").click()
    chat.wait_whole()
    assert len(chat.turns()) == 4

    chat.page.reload()
    chat.wait_ready()
    assert "Paris" in chat.turns()[1][1]
    chat.button("Settings").click()
    chat.page.get_by_label("Stop at (one a line)").fill("1\n2\n3\n4\n5")
    chat.button("Save").click()
    chat.talk("Hi")
    assert "The server has refused: stop" in chat.last.inner_text()
