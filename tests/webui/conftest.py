"""Real Chromium, without a window; a browser for each module and a fresh profile for each test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from chat_page import ChatPage, OpenPage
from scripted_server import ScriptedServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium; the tests are skipped where it or Playwright is missing."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright; `pip install 'ilmari[test]'`")
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("needs chromium; `apt-get install chromium`")
    # Its sandbox cannot be had by root; containers often have no large /dev/shm.
    flags = ["--disable-dev-shm-usage", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A server that echoes, until it is told otherwise."""
    server = ScriptedServer()
    yield server
    server.stop()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """A function that opens the page; in the end none may have had a mistake, or asked anybody but its server."""
    with ExitStack() as stack:
        pages: list[tuple[ChatPage, str]] = []

        def open_page(url: str, **options: Any) -> ChatPage:
            context = browser.new_context(**{"locale": "en-US", "viewport": {"width": 1200, "height": 800}} | options)
            stack.callback(context.close)
            chat = ChatPage(context.new_page())
            pages.append((chat, url))
            chat.open(url)
            return chat

        yield open_page
        for chat, url in pages:
            assert chat.mistakes == []
            assert chat.asked <= {url.rstrip("/")}


@pytest.fixture
def chat(open_page: OpenPage, server: ScriptedServer) -> ChatPage:
    """The page of that server."""
    return open_page(server.url)
