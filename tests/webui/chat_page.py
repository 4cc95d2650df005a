"""The page as its reader uses it: by what is written on it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

SECONDS = 60.0
MS = SECONDS * 1000
LAST = ".chunk:last-child > .message:last-child"


class ChatPage:
    """The page in a tab of a browser; whatever goes wrong in it is in `mistakes`, and where it asked in `asked`."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.mistakes: list[str] = []
        self.asked: set[str] = set()
        page.set_default_timeout(MS)
        page.on("pageerror", lambda error: self.mistakes.append(str(error)))
        page.on("console", self._said)
        page.on("request", lambda request: self.asked.add(_origin(request.url)))

    def _said(self, message: Any) -> None:
        # A refused request is on the console too, whatever the page makes of it.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.mistakes.append(message.text)

    def open(self, url: str) -> None:
        """Go there, and wait until it is ready to be used."""
        self.page.goto(url)
        self.wait_ready()

    def wait_ready(self) -> None:
        """Until the models are listed, or it says why they are not."""
        self.page.locator("#model option, #banner:not([hidden])").first.wait_for(state="attached")
        self.page.locator("#input:focus").wait_for()

    def ask(self, text: str) -> None:
        """Write and send."""
        self.page.fill("#input", text)
        self.page.press("#input", "Enter")

    def talk(self, text: str) -> None:
        """Ask, and wait for the whole reply."""
        self.ask(text)
        self.wait_whole()

    def wait_whole(self) -> None:
        """Until no reply is being written."""
        self.page.locator("#stop").wait_for(state="hidden")
        self.page.locator(f"{LAST}.assistant:not(.running)").wait_for()

    def wait_text(self, text: str) -> None:
        """Until the last message has this in it."""
        self.page.locator(LAST).filter(has_text=text).wait_for()

    @property
    def last(self) -> Locator:
        """The last message."""
        return self.page.locator(".message").last

    def turns(self) -> list[tuple[str, str]]:
        """Every message that is shown: who says it, and its text."""
        return [
            (message.get_attribute("class").split()[1], message.locator(".body").inner_text().strip())
            for message in self.page.locator(".message").all()
        ]

    def titles(self) -> list[str]:
        """Of the conversations in the list."""
        return self.page.locator("#conversations .choose").all_inner_texts()

    def button(self, name: str) -> Locator:
        """The button of this name."""
        return self.page.get_by_role("button", name=name, exact=True)

    def module(self, name: str, code: str, *arguments: Any) -> Any:
        """What `code` gives, a function's body that has the page's module as `m` and a list as `a`."""
        script = f"async ([name, a]) => {{ const m = await import(new URL('webui/' + name, location)); {code} }}"
        return self.page.evaluate(script, [name, list(arguments)])


OpenPage = Callable[..., ChatPage]
"""The fixture `open_page`: a new profile's page at a URL, with Playwright's options for a context."""


def _origin(url: str) -> str:
    scheme, _, rest = url.removeprefix("blob:").partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"


def until(condition: Callable[[], bool]) -> None:
    """Wait for something outside of the page."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
