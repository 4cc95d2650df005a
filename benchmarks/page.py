"""What the page for chatting costs: bytes and time of a first load, longest tasks of a conversation of 2,000 messages.

    python benchmarks/page.py [--rounds 5] [--output benchmarks/results/page.json]

On loopback, in Debian's Chromium without a window, against the scripted server of the tests. Of all rounds there are
the best, the median and the worst. Tasks are measured by the clock and by the CPU time that the page itself took, as
others may be at work meanwhile. Hostile texts are those of the tests, of 80,000 characters each.
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from ilmari.bench.machine import provenance
from ilmari.webui.page import page_files

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "webui"))

from chat_page import ChatPage
from hostile_texts import REPEATED, long_lines
from long_conversation import fill, scroll, show, stream
from longest_tasks import longest_tasks
from scripted_server import ScriptedServer

HOSTILE_CHARS = 80_000
TRANSFERRED = """[...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
    .reduce((sum, entry) => sum + entry.transferSize, 0)"""
# The last thing that a first load asks for is the list of models.
LOADED = "performance.getEntriesByType('resource').at(-1).responseEnd"
READ = """
    return Math.max(...a[0].map((text) => {
        const began = performance.now();
        m.markdown(text);
        return performance.now() - began;
    }));"""


def measure(browser: Browser) -> dict[str, float]:
    """One round, in a fresh profile: milliseconds, and the bytes that the first load transfers."""
    server = ScriptedServer()
    context = browser.new_context(locale="en-US", viewport={"width": 1200, "height": 800})
    try:
        chat = ChatPage(context.new_page())
        chat.open(server.url)
        figures = {"transferred_bytes": chat.page.evaluate(TRANSFERRED), "first_load_ms": chat.page.evaluate(LOADED)}
        texts = [(piece * HOSTILE_CHARS)[:HOSTILE_CHARS] for piece in REPEATED]
        figures["hostile_text_ms"] = chat.module("markdown.js", READ, [*texts, *long_lines(HOSTILE_CHARS)])
        fill(chat)
        for name, work in (
            ("opening", lambda: show(chat)),
            ("scrolling", lambda: scroll(chat)),
            ("streaming", lambda: stream(chat, server)),
        ):
            longest = longest_tasks(browser, work)
            figures[f"longest_task_{name}_wall_ms"] = longest.wall_ms
            figures[f"longest_task_{name}_cpu_ms"] = longest.cpu_ms
        assert chat.mistakes == []
    finally:
        context.close()
        server.stop()
    return figures


def of_all(rounds: Sequence[Mapping[str, float]], name: str) -> dict[str, float]:
    """What is published of a figure; less is better."""
    values = [figures[name] for figures in rounds]
    return {"best": min(values), "median": median(values), "worst": max(values)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    path = shutil.which("chromium")
    if path is None:
        sys.exit("needs chromium; `apt-get install chromium`")
    # Its sandbox cannot be had by root; containers often have no large /dev/shm.
    flags = ["--disable-dev-shm-usage", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        chromium = browser.version
        rounds = [measure(browser) for _ in range(arguments.rounds)]
        browser.close()
    files = page_files()
    result: dict[str, Any] = {name: value for name, value in provenance().items() if name != "threads"}
    result |= {
        "chromium": chromium,
        "files": len(files),
        "raw_bytes": sum(len(file.content) for file in files),
        "transferred_bytes": max(figures["transferred_bytes"] for figures in rounds),
        **{name: of_all(rounds, name) for name in rounds[0] if name.endswith("_ms")},
        "rounds": rounds,
    }
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
