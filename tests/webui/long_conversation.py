"""A conversation of 2,000 messages: put into the browser, opened, scrolled through, and continued."""

from __future__ import annotations

from chat_page import ChatPage
from scripted_server import Reply, ScriptedServer

MESSAGES = 2000
TITLE = "Long"

TEXT = """Here is **point {n}**, with `code` and a [link](https://example.org/{n}).

- one thing
- another, _rather longer_ than the first, so that it takes more than one line on every screen that there is

| a | b |
|---|---|
| {n} | 2 |

```python
def f{n}(x):
    return x + {n}
```
"""
FILL = """
    const messages = Array.from({ length: a[0] }, (_, n) =>
        n % 2 ? { role: "assistant", content: a[1].replaceAll("{n}", n) } : { role: "user", content: `Question ${n}` });
    const now = Date.now();
    await m.addConversation({ id: "long", title: a[2], created: now, updated: now }, messages);"""
SCROLL = """async () => {
    const scroller = document.getElementById("scroller");
    const frame = () => new Promise(requestAnimationFrame);
    for (let still = 0; still < 20; still = scroller.scrollTop === 0 ? still + 1 : 0) {
        scroller.scrollTop -= 2500;
        await frame();
    }
}"""
# Playwright's locators search all elements again and again, which is work for the page; these look at one.
BEGUN = "() => !document.getElementById('stop').hidden"
ENDED = "() => document.getElementById('stop').hidden"


def fill(chat: ChatPage) -> None:
    """Keep it in the browser, and list it."""
    chat.module("store.js", FILL, MESSAGES, TEXT, TITLE)
    chat.page.reload()
    chat.wait_ready()


def show(chat: ChatPage) -> None:
    """Open it, until nothing more is made."""
    chat.button(TITLE).click()
    chat.page.locator(".message").last.wait_for()
    chat.page.wait_for_timeout(200)


def scroll(chat: ChatPage) -> None:
    """Up to the first message."""
    chat.page.evaluate(SCROLL)


def stream(chat: ChatPage, server: ScriptedServer) -> None:
    """A long reply at the end of it all."""
    text = "\n".join(TEXT.replace("{n}", str(n)) for n in range(20))
    server.replies.append(Reply(tuple(text[at : at + 12] for at in range(0, len(text), 12)), pause=0.002))
    chat.page.keyboard.insert_text("One more")
    chat.page.keyboard.press("Enter")
    chat.page.wait_for_function(BEGUN)
    chat.page.wait_for_function(ENDED)
