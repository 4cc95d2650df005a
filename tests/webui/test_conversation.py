"""Conversations in a real browser: written, stopped, changed, kept, and taken elsewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from chat_page import ChatPage, until
from scripted_server import Reply, ScriptedServer

pytestmark = pytest.mark.browser


def said(server: ScriptedServer) -> list[tuple[str, str | None]]:
    """The messages of the last request."""
    return [(message["role"], message["content"]) for message in server.requests[-1]["messages"]]


def test_a_full_conversation(chat: ChatPage, server: ScriptedServer) -> None:
    server.replies.append(Reply(tuple("Hello **there**, _friend_."), pause=0.01))
    chat.talk("Hi")
    assert chat.turns() == [("user", "Hi"), ("assistant", "Hello there, friend.")]
    assert chat.last.locator("strong").inner_text() == "there"
    chat.talk("And now?")
    assert said(server) == [("user", "Hi"), ("assistant", "Hello **there**, _friend_."), ("user", "And now?")]
    assert server.requests[-1]["model"] == "tiny"
    assert server.requests[-1]["stream"] is True
    assert chat.titles() == ["Hi"]
    assert chat.page.locator("#heading").inner_text() == "Hi"
    assert chat.page.evaluate("document.activeElement.id") == "input"


def test_speed_is_shown(chat: ChatPage, server: ScriptedServer) -> None:
    server.replies.append(Reply(("a ",) * 5, pause=0.05))
    chat.talk("Hi")
    stats = chat.last.locator(".stats").inner_text()
    assert re.fullmatch(r"\d+\.\d tokens/s · first token after \d+\.\d\d s · 42 tokens", stats)


def test_speed_is_right(chat: ChatPage) -> None:
    """With a clock of the test's own: the question at 0, pieces at 0.5, 1 and 2 seconds."""
    code = """
        const times = [0, 500, 1000, 2000];
        performance.now = () => times.shift();
        const meter = new m.Meter();
        for (const content of "abc") meter.take({ content });
        const counted = meter.stats;
        meter.take({ usage: { completion_tokens: 10 } });
        delete performance.now;
        return [counted, meter.stats];"""
    assert chat.module("meter.js", code) == [
        {"tokens": 3, "exact": False, "first": 0.5, "rate": 2 / 1.5},
        {"tokens": 10, "exact": True, "first": 0.5, "rate": 6},
    ]


def test_servers_that_do_not_count(chat: ChatPage, server: ScriptedServer) -> None:
    server.usage = False
    server.replies.append(Reply(("a", "b", "c"), pause=0.01))
    chat.talk("Hi")
    assert "≈3 tokens" in chat.last.locator(".stats").inner_text()
    chat.talk("Again")
    assert ["stream_options" in request for request in server.requests] == [True, False, False]


def test_servers_that_do_not_stream(chat: ChatPage, server: ScriptedServer) -> None:
    server.streams = False
    chat.talk("Hi")
    assert chat.turns()[-1] == ("assistant", "You said: Hi")


def test_stop(chat: ChatPage, server: ScriptedServer) -> None:
    server.replies.append(Reply(("One ", "two ", "three ", "four"), holds_after=3))
    chat.ask("Count")
    chat.wait_text("three")
    assert not chat.page.locator("#send").is_visible()
    chat.button("Stop").click()
    chat.wait_whole()
    until(lambda: server.left_early == 1)
    assert chat.turns()[-1] == ("assistant", "One two three\nStopped.") or chat.turns()[-1][1].split("\n") == [
        "One two three",
        "",
        "Stopped.",
    ]
    chat.talk("Go on")
    assert said(server)[1] == ("assistant", "One two three ")


def test_answer_again(chat: ChatPage, server: ScriptedServer) -> None:
    server.replies.extend([Reply(("First.",)), Reply(("Second.",))])
    chat.talk("Hi")
    chat.last.get_by_role("button", name="Answer again").click()
    chat.wait_text("Second.")
    chat.wait_whole()
    assert chat.turns() == [("user", "Hi"), ("assistant", "Second.")]
    assert said(server) == [("user", "Hi")]


def test_edit(chat: ChatPage, server: ScriptedServer) -> None:
    for text in ("One", "Two", "Three"):
        chat.talk(text)
    second = chat.page.locator(".message.user").nth(1)
    second.hover()
    second.get_by_role("button", name="Edit").click()
    field = chat.page.get_by_label("Edit your message")
    assert field.input_value() == "Two"
    field.press("Escape")
    assert len(chat.turns()) == 6
    second.get_by_role("button", name="Edit").click()
    field.fill("Two\nlines")
    field.press("Enter")
    chat.wait_text("You said: Two\nlines")
    chat.wait_whole()
    assert [text for role, text in chat.turns() if role == "user"] == ["One", "Two\nlines"]
    assert said(server) == [("user", "One"), ("assistant", "You said: One"), ("user", "Two\nlines")]
    chat.page.reload()
    chat.wait_ready()
    assert len(chat.turns()) == 4


def test_edit_while_an_answer_is_written(chat: ChatPage, server: ScriptedServer) -> None:
    server.replies.append(Reply(("Wrong ", "way"), holds_after=1))
    chat.ask("Left")
    chat.wait_text("Wrong")
    message = chat.page.locator(".message.user")
    message.hover()
    message.get_by_role("button", name="Edit").click()
    chat.page.get_by_label("Edit your message").fill("Right")
    chat.page.get_by_label("Edit your message").press("Enter")
    chat.wait_text("You said: Right")
    chat.wait_whole()
    assert chat.turns() == [("user", "Right"), ("assistant", "You said: Right")]


def test_reload_keeps_the_conversation(chat: ChatPage, server: ScriptedServer) -> None:
    chat.talk("Hi")
    before = chat.turns(), chat.last.locator(".stats").inner_text()
    chat.page.reload()
    chat.wait_ready()
    assert (chat.turns(), chat.last.locator(".stats").inner_text()) == before
    server.replies.append(Reply(("Some of it. ",) * 30 + ("never",), pause=0.05, holds_after=30))
    chat.ask("Long")
    chat.wait_text("Some of it. " * 29)
    chat.page.reload()
    chat.wait_ready()
    assert chat.turns()[:3] == [*before[0], ("user", "Long")]
    assert "Some of it." in chat.turns()[3][1]
    assert chat.turns()[3][1].endswith("Stopped."), "what was cut does not look whole"
    server.replies.append(Reply(("never",), holds_after=0))
    chat.page.fill("#input", "Nothing yet")
    with chat.page.expect_navigation():
        chat.page.evaluate("() => { document.getElementById('send').click(); location.reload(); }")
    chat.wait_ready()
    assert chat.turns()[4:] == [("user", "Nothing yet"), ("assistant", "Stopped.")]


def test_several_conversations(chat: ChatPage, server: ScriptedServer) -> None:
    server.replies.append(Reply(("Slow ", "reply."), holds_after=1))
    chat.ask("First")
    chat.wait_text("Slow")
    chat.button("New chat").click()
    chat.talk("Second")
    assert chat.titles() == ["Second", "First"]
    chat.button("First").click()
    chat.wait_text("Slow")
    assert chat.page.locator("#stop").is_visible()
    server.gate.set()
    chat.wait_text("Slow reply.")
    chat.wait_whole()

    chat.button("Rename “First”").click()
    chat.page.locator("#ask-text").fill("Renamed")
    chat.button("Save").click()
    chat.button("Renamed").wait_for()
    chat.button("Delete “Renamed”").click()
    assert "Renamed" in chat.page.locator("#ask-question").inner_text()
    chat.button("Cancel").click()
    assert sorted(chat.titles()) == ["Renamed", "Second"]
    chat.button("Delete “Renamed”").click()
    chat.page.locator("#ask-confirm").click()
    chat.page.locator("#empty").wait_for()
    chat.button("Renamed").wait_for(state="detached")
    chat.page.reload()
    chat.wait_ready()
    assert chat.titles() == ["Second"]


def test_a_deleted_conversation_stays_deleted(chat: ChatPage, server: ScriptedServer) -> None:
    server.replies.append(Reply(("Slow ", "reply."), holds_after=1))
    chat.ask("First")
    chat.wait_text("Slow")
    chat.button("Delete “First”").click()
    chat.page.locator("#ask-confirm").click()
    chat.page.locator("#empty").wait_for()
    until(lambda: server.left_early == 1)
    chat.page.reload()
    chat.wait_ready()
    assert chat.titles() == []


def test_export_and_import(chat: ChatPage, server: ScriptedServer, tmp_path: Path) -> None:
    server.replies.append(Reply(calls=(("look", '{"at": "x"}'),), reasoning="Hm."))
    chat.talk("Hi")
    chat.button("New chat").click()
    chat.talk("你好")
    with chat.page.expect_download() as download:
        chat.button("Export").click()
    path = tmp_path / "exported.json"
    download.value.save_as(path)
    exported = json.loads(path.read_text(encoding="utf-8"))
    assert [each["title"] for each in exported["conversations"]] == ["你好", "Hi"]

    for title in ("Hi", "你好"):
        chat.button(f"Delete “{title}”").click()
        chat.page.locator("#ask-confirm").click()
        chat.button(title).wait_for(state="detached")
    chat.page.set_input_files("#file", path)
    chat.button("Hi").click()
    chat.wait_text("look")
    assert "Hm." in chat.page.locator(".thinking").text_content()
    with chat.page.expect_download() as download:
        chat.button("Export").click()
    again = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    assert again == exported


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"format": "ilmari-conversations", "conversations": [{"messages": [{"role": "x"}]}]}']
)
def test_files_that_are_none(chat: ChatPage, tmp_path: Path, content: str) -> None:
    path = tmp_path / "file.json"
    path.write_text(content, encoding="utf-8")
    chat.page.set_input_files("#file", path)
    chat.page.locator("#banner").filter(has_text="This file has no conversations").wait_for()
    assert chat.titles() == []


def test_settings_are_sent_and_kept(chat: ChatPage, server: ScriptedServer) -> None:
    chat.button("Settings").click()
    for label, value in {
        "System prompt": "Be brief.",
        "Temperature": "0.5",
        "Most tokens in a reply": "9",
        "Seed": "0",
        "Stop at (one a line)": "END\nFIN",
    }.items():
        chat.page.get_by_label(label).fill(value)
    chat.page.get_by_label("Answers are").select_option("schema")
    chat.page.get_by_label("JSON schema").fill("[1")
    chat.button("Save").click()
    assert chat.page.locator("#settings").is_visible(), "what is no JSON is not saved"
    chat.page.get_by_label("JSON schema").fill('{"type": "object"}')
    chat.button("Save").click()
    chat.page.locator("#settings").wait_for(state="hidden")
    chat.page.reload()
    chat.wait_ready()
    chat.page.get_by_label("Model").select_option("other")
    chat.talk("Hi")
    request = server.requests[-1]
    assert said(server) == [("system", "Be brief."), ("user", "Hi")]
    assert request["model"] == "other"
    assert {name: request[name] for name in ("temperature", "max_tokens", "seed", "stop")} == {
        "temperature": 0.5,
        "max_tokens": 9,
        "seed": 0,
        "stop": ["END", "FIN"],
    }
    assert request["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert not {"top_p", "presence_penalty", "frequency_penalty", "tools"} & request.keys()
    chat.page.reload()
    chat.wait_ready()
    assert chat.page.get_by_label("Model").input_value() == "other"


def test_a_schema_that_is_not_asked_for_may_be_none(chat: ChatPage, server: ScriptedServer) -> None:
    schema, form = chat.page.get_by_label("JSON schema"), chat.page.get_by_label("Answers are")
    for text in ('{"type": "object"}', "[1"):
        chat.button("Settings").click()
        form.select_option("schema")
        schema.fill(text)
        if text == "[1":
            form.select_option("text")
        chat.button("Save").click()
        chat.page.locator("#settings").wait_for(state="hidden")
    chat.talk("Hi")
    assert "response_format" not in server.requests[-1]
    chat.button("Settings").click()
    form.select_option("schema")
    assert schema.input_value() == '{"type": "object"}', "the one that was kept"


def test_calls_that_are_not_counted(chat: ChatPage, server: ScriptedServer) -> None:
    """No index: an id begins the next one. An index that cannot be is passed over."""
    first = {"id": "a", "function": {"name": "look", "arguments": '{"at":'}}
    deltas = [first, {"function": {"arguments": '"x"}'}}, {"id": "b", "function": {"name": "clock"}}]
    hostile = [{"index": at, "function": {"name": "bad"}} for at in (10**9, -1, 0.5, "__proto__", "0")]
    server.replies.append(Reply(call_deltas=(*deltas, *hostile)))
    chat.talk("Call")
    shown = [call.split() for call in chat.page.locator(".call").all_inner_texts()]
    assert shown == [["Calls", "look", "at", "x"], ["Calls", "clock"]]
    assert chat.page.evaluate("'name' in []") is False


def test_tool_calls(chat: ChatPage, server: ScriptedServer) -> None:
    arguments = '{"city": "Helsinki", "days": 2}'
    server.replies.append(Reply(("Let me look.",), calls=(("weather", arguments), ("clock", "{}"))))
    chat.talk("Weather?")
    calls = chat.last.locator(".call")
    assert calls.nth(0).inner_text().split() == ["Calls", "weather", "city", "Helsinki", "days", "2"]
    assert calls.nth(1).inner_text() == "Calls clock"
    chat.page.get_by_label("Result of weather").fill('{"sky": "blue"}')
    chat.page.get_by_label("Result of clock").fill("noon")
    chat.button("Send the results").click()
    chat.wait_text("You said: noon")
    chat.wait_whole()
    question, call, first, second = server.requests[-1]["messages"]
    assert question["content"] == "Weather?"
    assert [each["function"] for each in call["tool_calls"]] == [
        {"name": "weather", "arguments": arguments},
        {"name": "clock", "arguments": "{}"},
    ]
    assert first == {"role": "tool", "tool_call_id": "call-0", "content": '{"sky": "blue"}'}
    assert second == {"role": "tool", "tool_call_id": "call-1", "content": "noon"}


def test_calls_without_results_are_not_sent(chat: ChatPage, server: ScriptedServer) -> None:
    server.replies.append(Reply(calls=(("clock", "{}"),)))
    chat.talk("Time?")
    chat.talk("Never mind")
    assert said(server) == [("user", "Time?"), ("user", "Never mind")]


def test_json_is_readable(chat: ChatPage, server: ScriptedServer) -> None:
    server.replies.append(Reply(('{"city":', '"Turku","days":[1,2]}')))
    chat.talk("JSON")
    assert chat.last.locator("pre").inner_text() == json.dumps({"city": "Turku", "days": [1, 2]}, indent=2)


def test_code_is_copied(chat: ChatPage, server: ScriptedServer) -> None:
    chat.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    server.replies.append(Reply(("Look:\n```python\nprint('<b>')\n\nx = 1\n", "```\nDone.")))
    chat.talk("Code")
    chat.button("Copy code").click()
    chat.button("Copied").wait_for()
    assert chat.page.evaluate("navigator.clipboard.readText()") == "print('<b>')\n\nx = 1"


def test_a_reply_cut_off_says_so(chat: ChatPage, server: ScriptedServer) -> None:
    server.replies.append(Reply(("Once upon",), finish="length"))
    chat.talk("Tell")
    assert "Cut off" in chat.last.inner_text()


@pytest.mark.parametrize("composing", ["isComposing: true", "keyCode: 229"])
def test_input_methods_keep_their_keys(chat: ChatPage, server: ScriptedServer, composing: str) -> None:
    press = f"""(element, key) => element.dispatchEvent(
        new KeyboardEvent("keydown", {{ key, {composing}, bubbles: true, cancelable: true }}))"""
    server.replies.append(Reply(("One ", "two"), holds_after=1))
    chat.ask("Count")
    chat.wait_text("One")
    field = chat.page.locator("#input")
    field.evaluate(press, "Escape")
    server.gate.set()
    chat.wait_text("One two")
    chat.wait_whole()
    field.fill("ni")
    field.evaluate(press, "Enter")
    field.press("Shift+Enter")
    assert field.input_value() == "ni\n"
    chat.page.locator(".message.user").hover()
    chat.button("Edit").click()
    edited = chat.page.get_by_label("Edit your message")
    for key in ("Enter", "Escape"):
        edited.evaluate(press, key)
    assert edited.input_value() == "Count"
    assert len(server.requests) == 1
