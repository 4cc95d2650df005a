"""The longest tasks of a page, as Chromium traces them: by the clock, and by what the page itself computed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CATEGORIES = ["disabled-by-default-devtools.timeline", "__metadata"]


class Longest(NamedTuple):
    """Milliseconds of the task that took longest, and of the one that computed longest.

    CPU time is that of the page's main thread: it stands still while other programs have the processor.
    """

    wall_ms: float
    cpu_ms: float


def longest_tasks(browser: Browser, work: Callable[[], None]) -> Longest:
    """Of all tasks on the browser's pages' main threads that began and ended while `work` went on."""
    browser.start_tracing(categories=CATEGORIES)
    work()
    events = json.loads(browser.stop_tracing())["traceEvents"]
    pages = {
        (event["pid"], event["tid"])
        for event in events
        if event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"
    }
    tasks = [
        event
        for event in events
        if event["name"] == "RunTask" and event["ph"] == "X" and (event["pid"], event["tid"]) in pages
    ]
    return Longest(max(task["dur"] for task in tasks) / 1000, max(task["tdur"] for task in tasks) / 1000)
