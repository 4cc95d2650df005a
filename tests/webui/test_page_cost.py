"""What the page costs: bytes of the first load, and work on a conversation of 2,000 messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from chat_page import ChatPage, OpenPage
from long_conversation import MESSAGES, fill, scroll, show, stream
from longest_tasks import longest_tasks
from scripted_server import ScriptedServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser

MOST_BYTES = 100_000
MOST_AT_FIRST = 60
"""Messages that have elements when a conversation is opened: a few screens of them."""
MOST_CPU_MS = 100
"""Of one task, in which the page answers nobody."""


def test_first_load(open_page: OpenPage, server: ScriptedServer) -> None:
    chat = open_page(server.url)
    sizes = chat.page.evaluate(
        "[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]"
        ".map((entry) => entry.transferSize)"
    )
    assert sum(size > 0 for size in sizes) > 20, "nothing comes from a cache"
    assert sum(sizes) < MOST_BYTES


def test_two_thousand_messages(browser: Browser, chat: ChatPage, server: ScriptedServer) -> None:
    fill(chat)
    show(chat)
    messages = chat.page.locator(".message")
    assert messages.count() < MOST_AT_FIRST
    scrolling = longest_tasks(browser, lambda: scroll(chat))
    assert messages.count() == MESSAGES
    assert messages.first.locator(".text").inner_text() == "Question 0"
    chunks = chat.page.locator(".chunk")
    assert chunks.first.evaluate("(chunk) => getComputedStyle(chunk).contentVisibility") == "auto"
    streaming = longest_tasks(browser, lambda: stream(chat, server))
    assert len(server.requests[-1]["messages"]) == MESSAGES + 1
    assert messages.count() == MESSAGES + 2
    left = "(scroller) => scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight"
    assert chat.page.locator("#scroller").evaluate(left) < 5, "the end stays in sight"
    assert scrolling.cpu_ms < MOST_CPU_MS
    assert streaming.cpu_ms < MOST_CPU_MS
