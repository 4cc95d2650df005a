"""Takes the README's pictures of the page: python docs/images/make_screenshots.py URL, with the demo model there."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

FOLDER = Path(__file__).parent
DESKTOP = {"viewport": {"width": 1200, "height": 760}}
PHONE = {"viewport": {"width": 390, "height": 760}, "is_mobile": True, "has_touch": True}
CONVERSATIONS = (
    ("What is gravity?",),
    ("What is the capital of France?", "Write a Python function that adds two numbers."),
)
PICTURES = {
    "chat-light.png": {**DESKTOP, "color_scheme": "light"},
    "chat-dark.png": {**DESKTOP, "color_scheme": "dark"},
    "chat-phone.png": {**PHONE, "color_scheme": "light"},
    "chat-chinese.png": {**DESKTOP, "color_scheme": "light", "locale": "zh-CN"},
}


def main(url: str) -> None:
    """Ask the model the same in each."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, options in PICTURES.items():
            page = _page(browser, url, options)
            _talk(page)
            if "locale" in options:  # the demo model speaks English alone
                page.click("#new")
                page.mouse.move(700, 20)
            page.screenshot(path=FOLDER / name)
            print(name, (FOLDER / name).stat().st_size, "bytes")
        browser.close()


def _page(browser: Browser, url: str, options: dict[str, object]) -> Page:
    page = browser.new_context(**{"locale": "en-US", **options}).new_page()  # type: ignore[arg-type]
    page.goto(url)
    page.locator("#model option").first.wait_for(state="attached")
    page.evaluate("localStorage.setItem('ilmari.settings', JSON.stringify({ temperature: '0', max_tokens: '100' }))")
    page.reload()
    page.locator("#model option").first.wait_for(state="attached")
    return page


def _talk(page: Page) -> None:
    for questions in CONVERSATIONS:
        if page.locator("#new").is_visible():
            page.click("#new")
        for question in questions:
            page.fill("#input", question)
            page.press("#input", "Enter")
            page.locator("#stop").wait_for()
            page.locator("#stop").wait_for(state="hidden", timeout=120_000)
    page.mouse.move(700, 20)
    page.evaluate("document.getElementById('scroller').scrollTop = 0")
    page.wait_for_timeout(500)


if __name__ == "__main__":
    main(sys.argv[1])
