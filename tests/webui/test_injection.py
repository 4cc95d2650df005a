"""Text that wants to be more than text: from the reader, the model, a title, a file. None of it ever is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from chat_page import ChatPage
from scripted_server import Reply, ScriptedServer

pytestmark = pytest.mark.browser

MARK = "window.hacked=1"
ATTACKS = [
    f"<script>{MARK}</script>",
    f"<img src=x onerror={MARK}>",
    f"<svg onload={MARK}><script>{MARK}</script></svg>",
    f"<iframe srcdoc='<script>parent.{MARK}</script>'></iframe>",
    f"<details open ontoggle={MARK}><a href=javascript:{MARK}>x</a>",
    f"[x](javascript:{MARK})",
    f"[x](JaVaScRiPt:{MARK})",
    f"[x](java\tscript:{MARK})",
    f"[x](<javascript:{MARK}>)",
    f"[x](data:text/html;base64,PHNjcmlwdD4={MARK})",
    f"[x](vbscript:{MARK}) [y](file:///etc/passwd) [z](blob:null)",
    f"<javascript:{MARK}> <data:text/html,{MARK}>",
    f'![x](x"onerror="{MARK}) ![y](https://attacker.example/pixel.png)',
    f'[x](https://e.example/"onmouseover="{MARK})',
    f"```html\n<img src=x onerror={MARK}>\n<script>{MARK}</script>\n```",
    f'```"><script>{MARK}</script>\ncode\n```',
    f"| <img src=x onerror={MARK}> |\n|---|\n| <script>{MARK}</script> |",
    f"- <img src=x onerror={MARK}>\n\n> <svg/onload={MARK}>\n\n# <script>{MARK}</script>",
    f"`<img src=x onerror={MARK}>` **<b onclick={MARK}>**",
    '<style>body{display:none}</style><link rel=stylesheet href="https://attacker.example/x.css">',
    '<form action="https://attacker.example"><input autofocus onfocus=window.hacked=1></form>',
    "<base href='https://attacker.example/'><meta http-equiv=refresh content='0;url=https://attacker.example'>",
]
FOREIGN = (
    "script, img, svg:not(button svg), iframe, style, link, form:not(.calls), base, meta, object, embed, "
    "[onerror], [onclick], [onload], [style], [srcdoc]"
)


def harmless(chat: ChatPage, place: str) -> None:
    """Nothing has run, and what is shown in `place` is made of the page's own kinds of elements."""
    assert chat.page.evaluate("window.hacked") is None
    assert chat.page.locator(f"{place} :is({FOREIGN})").count() == 0
    for href in chat.page.locator(f"{place} a").evaluate_all("links => links.map((link) => link.href)"):
        assert href.startswith(("https://", "http://", "mailto:"))
    assert chat.page.locator("body").is_visible()


def test_replies_and_prompts(chat: ChatPage, server: ScriptedServer) -> None:
    server.replies.extend(Reply(tuple(attack[at : at + 7] for at in range(0, len(attack), 7))) for attack in ATTACKS)
    for attack in ATTACKS:
        chat.talk(attack)
        assert chat.page.locator(".message.user").last.locator(".text").text_content() == attack
    harmless(chat, "#messages")
    for link in chat.page.locator("#messages a").all():
        assert link.get_attribute("target") == "_blank"
        assert link.get_attribute("rel") == "noopener noreferrer nofollow"
    chat.page.reload()
    chat.wait_ready()
    harmless(chat, "#messages")
    assert chat.page.evaluate("performance.getEntriesByType('resource').every((each) => each.name.startsWith(origin))")


def test_everything_else_that_is_shown(chat: ChatPage, server: ScriptedServer) -> None:
    attack = ATTACKS[1]
    server.models = (attack, "tiny")
    server.replies.extend(
        [
            Reply(calls=((attack, json.dumps({attack: attack})), ("odd", attack)), reasoning=attack),
            Reply(refusal=(400, json.dumps({"error": {"message": attack}}).encode())),
            Reply((json.dumps({attack: attack}),)),
        ]
    )
    chat.page.reload()
    chat.wait_ready()
    for _ in range(3):
        chat.talk(attack)
    assert attack in chat.page.locator(".failure").inner_text()
    harmless(chat, "body #main :is(#messages, header, #banner)")
    harmless(chat, "#conversations")


def test_titles(chat: ChatPage) -> None:
    chat.talk("Hi")
    for attack in ATTACKS:
        chat.page.locator("#conversations .icon").first.click()
        chat.page.locator("#ask-text").fill(attack.replace("\n", " "))
        chat.page.locator("#ask-confirm").click()
        chat.page.locator("#ask").wait_for(state="hidden")
    chat.page.locator("#conversations .icon").nth(1).click()
    harmless(chat, "#conversations")
    harmless(chat, "#heading")
    harmless(chat, "#ask-question")


def test_imported_files(chat: ChatPage, tmp_path: Path) -> None:
    for number, attack in enumerate(ATTACKS):
        message = {
            "role": "assistant",
            "content": attack,
            "model": attack,
            "reasoning": attack,
            "calls": [{"id": attack, "name": attack, "arguments": attack}],
            "error": {"kind": attack, "said": attack},
            "state": "failed",
            "stats": {"tokens": attack, "first": attack, "__proto__": {"rate": attack}},
        }
        messages = [{"role": "user", "content": attack}, message, {"role": "tool", "content": attack, "callId": attack}]
        entry = {"id": attack, "title": attack, "created": attack, "updated": number, "messages": messages}
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps({"format": "ilmari-conversations", "conversations": [entry]}), encoding="utf-8")
        chat.page.set_input_files("#file", path)
        chat.page.locator("#conversations li").nth(number).wait_for()
        chat.page.locator("#conversations .choose").first.click()
        chat.page.locator(".message.tool").wait_for()
        harmless(chat, "#messages")
        harmless(chat, "#conversations")


def test_the_browser_would_refuse_them_too(chat: ChatPage) -> None:
    """Even if a text became an element, the policy would let nothing run or load."""
    said: list[str] = []
    chat.page.on("console", lambda message: said.append(message.text))
    chat.page.evaluate(
        """() => {
            const script = document.createElement("script");
            try { script.textContent = "window.hacked = 1"; document.body.append(script); } catch { }
            try { document.body.innerHTML = "<img src=x onerror=window.hacked=1>"; } catch { }
            const image = document.createElement("img");
            image.src = "https://attacker.example/pixel.png";
            document.body.append(image);
            try { image.setAttribute("onerror", "window.hacked = 1"); } catch { }
        }"""
    )
    assert chat.page.evaluate("fetch('https://attacker.example').then(() => 'sent', () => 'refused')") == "refused"
    assert chat.page.evaluate("window.hacked") is None
    assert any("Content Security Policy" in text for text in said)
    chat.mistakes.clear()
    chat.asked = {asked for asked in chat.asked if "attacker" not in asked}
