"""The page for everybody: two languages, two themes, a phone, the keyboard alone, a screen reader, and axe's rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from chat_page import ChatPage, OpenPage
from scripted_server import Reply, ScriptedServer

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

RICH = """# A title

Text with `code`, **bold** and a [link](https://example.org).

- one
  1. nested
- two

> quoted

| a | b |
|---|--:|
| 1 | 2 |

```python
print(1)
```
"""
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def fill(chat: ChatPage, server: ScriptedServer) -> None:
    """A conversation with everything that a message may have."""
    server.replies.extend(
        [
            Reply((RICH,), reasoning="Hm."),
            Reply((), calls=(("weather", '{"city": "Turku"}'),)),
            Reply(('{"a": 1}',)),
            Reply(("Some ", "text"), error_after=1),
        ]
    )
    for text in ("One", "Two", "Three", "Four"):
        chat.talk(text)


def findings(page: Page) -> list[str]:
    """Axe's serious and critical findings, with the elements they are about."""
    from axe_playwright_python.sync_playwright import Axe

    violations = Axe().run(page).response["violations"]
    return [
        f"{found['id']}: {[node['html'] for node in found['nodes']]}"
        for found in violations
        if found["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_axe(open_page: OpenPage, server: ScriptedServer, scheme: str, locale: str) -> None:
    chat = open_page(server.url, color_scheme=scheme, locale=locale)
    assert findings(chat.page) == []
    fill(chat, server)
    chat.page.locator(".message.user").first.hover()
    assert findings(chat.page) == []
    chat.page.locator("#settings-open").click()
    assert findings(chat.page) == []
    chat.page.keyboard.press("Escape")
    chat.page.locator("#conversations .icon").last.click()
    assert findings(chat.page) == []


def test_axe_on_a_phone(open_page: OpenPage, server: ScriptedServer) -> None:
    chat = open_page(server.url, **PHONE)
    fill(chat, server)
    assert findings(chat.page) == []
    chat.page.locator("#sidebar-open").click()
    assert findings(chat.page) == []


def test_two_languages(open_page: OpenPage, server: ScriptedServer) -> None:
    chat = open_page(server.url, locale="zh-CN")
    assert chat.page.evaluate("document.documentElement.lang") == "zh-CN"
    assert chat.page.get_by_placeholder("有什么想问的？").is_visible()
    chat.talk("你好")
    assert "词元" in chat.last.locator(".stats").inner_text()
    chat.button("English").click()
    assert "tokens" in chat.last.locator(".stats").inner_text()
    assert chat.page.get_by_placeholder("Ask anything").is_visible()
    chat.page.reload()
    chat.wait_ready()
    assert chat.page.title() == "ilmari chat"
    chat.button("中文").click()
    assert chat.page.title() == "ilmari 对话"


def test_every_text_is_used_in_every_language(chat: ChatPage) -> None:
    texts = chat.module("texts.js", "return m.TEXTS")
    assert texts["en"].keys() == texts["zh"].keys()
    names = chat.page.evaluate("performance.getEntriesByType('resource').map((entry) => entry.name)")
    sources = [chat.page.request.get(name).text() for name in names if name.endswith(".js") and "texts.js" not in name]
    source = "".join([*sources, chat.page.request.get(chat.page.url).text()])
    assert [key for key in texts["en"] if f'"{key}"' not in source] == []
    for key, text in texts["en"].items():
        assert text.count("{") == texts["zh"][key].count("{"), key


def test_two_themes(open_page: OpenPage, server: ScriptedServer) -> None:
    chat = open_page(server.url, color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = chat.page.evaluate(ground)
    chat.button("Theme").click()
    light = chat.page.evaluate(ground)
    assert light != dark
    chat.page.reload()
    chat.wait_ready()
    assert chat.page.evaluate(ground) == light
    chat.page.emulate_media(color_scheme="light")
    chat.button("Theme").click()
    assert chat.page.evaluate(ground) == dark


def test_a_phone(open_page: OpenPage, server: ScriptedServer) -> None:
    chat = open_page(server.url, **PHONE)
    server.replies.append(Reply((RICH + "\n\n" + "x" * 300,)))
    chat.talk("A very " + "long " * 50 + "question" * 20)
    assert chat.page.evaluate("document.documentElement.scrollWidth") == PHONE["viewport"]["width"]  # type: ignore[index]
    main = chat.page.locator("#scroller")
    assert main.evaluate("element => element.scrollWidth <= element.clientWidth")
    new = chat.button("New chat")
    assert not new.is_visible()
    chat.page.locator("#sidebar-open").tap()
    new.tap()
    assert not new.is_visible()
    chat.page.locator("#empty").wait_for()
    chat.page.locator("#sidebar-open").tap()
    chat.page.locator("#conversations .choose").first.tap()
    chat.page.locator(".message").first.wait_for()


def focused(chat: ChatPage) -> str:
    """The name of what has the focus."""
    return str(
        chat.page.evaluate("document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent")
    )


def tab_to(chat: ChatPage, name: str, key: str = "Tab") -> None:
    """Press until the element of this name has the focus, which can be seen."""
    for _ in range(60):
        if focused(chat).strip() == name:
            assert chat.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
            return
        chat.page.keyboard.press(key)
    raise AssertionError(f"{name} is not reached")


def test_the_keyboard_alone(chat: ChatPage, server: ScriptedServer) -> None:
    keyboard = chat.page.keyboard
    server.replies.append(Reply(("One ", "two"), holds_after=1))
    keyboard.type("Hi")
    keyboard.press("Enter")
    chat.wait_text("One")
    keyboard.press("Escape")
    chat.wait_whole()
    assert chat.page.locator(".note").inner_text() == "Stopped."

    tab_to(chat, "Edit", "Shift+Tab")
    keyboard.press("Enter")
    assert focused(chat) == "Edit your message"
    keyboard.press("End")
    keyboard.type("!")
    keyboard.press("Enter")
    chat.wait_text("You said: Hi!")
    chat.wait_whole()

    tab_to(chat, "Settings", "Shift+Tab")
    keyboard.press("Enter")
    keyboard.press("Escape")
    assert focused(chat) == "Settings"
    tab_to(chat, "Rename “Hi”", "Shift+Tab")
    keyboard.press("Enter")
    keyboard.type("Greeting")
    keyboard.press("Enter")
    chat.button("Greeting").wait_for()
    tab_to(chat, "New chat", "Shift+Tab")
    keyboard.press("Enter")
    chat.page.locator("#empty").wait_for()
    assert chat.page.evaluate("document.activeElement.id") == "input"


def test_the_way_past_the_list(chat: ChatPage) -> None:
    tab_to(chat, "Skip to the message box", "Shift+Tab")
    assert chat.page.locator(".skip").bounding_box()["y"] > 0  # type: ignore[index]
    chat.page.keyboard.press("Enter")
    assert chat.page.evaluate("document.activeElement.id") == "input"


def test_replies_are_announced_once(chat: ChatPage, server: ScriptedServer) -> None:
    chat.page.evaluate(
        """() => {
            window.heard = [];
            const region = document.getElementById("announcer");
            new MutationObserver(() => window.heard.push(region.textContent)).observe(region, { childList: true });
        }"""
    )
    server.replies.append(Reply(tuple("abcdefghij"), pause=0.01))
    chat.talk("Hi")
    assert chat.page.evaluate("window.heard") == ["The answer is being written.", "Answer: abcdefghij"]
    assert chat.page.evaluate("document.querySelectorAll('[aria-live], [role=log], [role=alert]').length") == 0
