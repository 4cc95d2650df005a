"""What the page costs: bytes of the first load, and how much is made of a conversation of 2,000 messages."""

from __future__ import annotations

import pytest
from chat_page import ChatPage, OpenPage
from long_conversation import MESSAGES, fill, scroll, show, stream
from scripted_server import ScriptedServer

pytestmark = pytest.mark.browser

MOST_BYTES = 100_000
MOST_AT_FIRST = 60
"""Messages that have elements when a conversation is opened: a few screens of them."""


def test_first_load(open_page: OpenPage, server: ScriptedServer) -> None:
    chat = open_page(server.url)
    sizes = chat.page.evaluate(
        "[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]"
        ".map((entry) => entry.transferSize)"
    )
    assert sum(size > 0 for size in sizes) > 20, "nothing comes from a cache"
    assert sum(sizes) < MOST_BYTES


def test_two_thousand_messages(chat: ChatPage, server: ScriptedServer) -> None:
    fill(chat)
    show(chat)
    messages = chat.page.locator(".message")
    assert messages.count() < MOST_AT_FIRST
    scroll(chat)
    assert messages.count() == MESSAGES
    assert messages.first.locator(".text").inner_text() == "Question 0"
    chunks = chat.page.locator(".chunk")
    assert chunks.first.evaluate("(chunk) => getComputedStyle(chunk).contentVisibility") == "auto"
    stream(chat, server)
    assert len(server.requests[-1]["messages"]) == MESSAGES + 1
    assert messages.count() == MESSAGES + 2
    left = "(scroller) => scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight"
    assert chat.page.locator("#scroller").evaluate(left) < 5, "the end stays in sight"
