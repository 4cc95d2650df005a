"""What the page says when the server refuses, fails, wants a key, or is gone and comes back."""

from __future__ import annotations

import pytest
from chat_page import ChatPage
from scripted_server import Reply, ScriptedServer, refusal
from starlette.responses import JSONResponse, Response

pytestmark = pytest.mark.browser

TOO_LONG = "The prompt has 300 tokens and at most 128 fit; send less."


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        (refusal(400, TOO_LONG), f"The server has refused: {TOO_LONG}"),
        (refusal(429, "The queue is full."), "The server has refused: The queue is full."),
        (Reply(refusal=(422, b'{"detail": "no"}')), "The server has refused: no"),
        (Reply(refusal=(500, b"<html>oops</html>")), "The server has refused: HTTP 500."),
        (Reply(refusal=(200, b"hello")), "The server gave an answer that is none of this API."),
        (Reply(("Some ", "text"), error_after=1), "The server has refused: The engine has stopped."),
        (Reply(("Some ", "text"), pause=0.3, cut_after=1), "The connection was lost before the answer was whole."),
    ],
)
def test_sentences(chat: ChatPage, server: ScriptedServer, reply: Reply, sentence: str) -> None:
    server.replies.append(reply)
    chat.talk("Hi")
    assert chat.last.locator(".failure p").inner_text() == sentence
    assert chat.page.locator("#announcer").inner_text() == sentence
    assert chat.turns()[-1][1].startswith("Some" if reply.pieces else "The server")
    chat.button("Try again").click()
    chat.wait_text("You said: Hi")
    chat.wait_whole()
    assert len(chat.turns()) == 2


def test_a_key_is_asked_for(chat: ChatPage, server: ScriptedServer) -> None:
    server.key = "sk-right"
    chat.page.reload()
    chat.page.locator("#banner").filter(has_text="asks for an API key").wait_for()
    chat.button("Enter a key").click()
    assert chat.page.evaluate("document.activeElement.name") == "api_key"
    for key in ("sk-wrong", "sk-right"):
        chat.page.get_by_label("API key").fill(key)
        chat.button("Save").click()
        chat.page.locator("#settings").wait_for(state="hidden")
        if key == "sk-wrong":
            chat.talk("Hi")
            chat.last.get_by_role("button", name="Enter a key").click()
    chat.page.locator("#banner").wait_for(state="hidden")
    chat.talk("Hi again")
    assert chat.turns()[-1] == ("assistant", "You said: Hi again")
    chat.page.reload()
    chat.wait_ready()
    chat.talk("Still in")
    assert chat.turns()[-1] == ("assistant", "You said: Still in")


def test_no_list_of_models(chat: ChatPage, server: ScriptedServer) -> None:
    server.no_models = JSONResponse({"error": {"message": "The model is being loaded."}}, 503)
    chat.page.reload()
    banner = chat.page.locator("#banner")
    banner.filter(has_text="The server has refused: The model is being loaded.").wait_for()
    server.no_models = Response("<html>")
    banner.filter(has_text="The server gave an answer that is none of this API.").wait_for()
    assert banner.inner_text().count(".") == 1, "the old sentence is gone"
    server.no_models = None
    chat.page.reload()
    chat.wait_ready()
    assert banner.is_hidden()


def test_the_server_goes_away_and_comes_back(chat: ChatPage, server: ScriptedServer) -> None:
    server.replies.append(Reply(("Some ", "text"), holds_after=1))
    chat.ask("Hi")
    chat.wait_text("Some")
    server.stop()
    chat.wait_whole()
    assert "Some" in chat.last.inner_text()
    assert "The connection was lost" in chat.last.inner_text()
    banner = chat.page.locator("#banner")
    banner.filter(has_text="The server cannot be reached").wait_for()
    chat.talk("Are you there?")
    assert "nothing was answered" in chat.last.inner_text()
    server.start()
    banner.filter(has_text="can be reached again").wait_for()
    chat.button("Try again").last.click()
    chat.wait_text("You said: Are you there?")
    chat.wait_whole()
    assert [role for role, _ in chat.turns()] == ["user", "assistant", "user", "assistant"]
    banner.wait_for(state="hidden")
