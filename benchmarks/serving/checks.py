"""What must hold after a soak."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.serving.killer import Kill
from benchmarks.serving.visit import Visit

MEMORY_MARGIN = 32 << 20
"""Bytes that a process may be larger than after the warm-up. Python and the C library keep what they have freed, in
holes that depend on who was served at once: a front end went from 90 to 108 MiB in half an hour, while all that Python
itself had allocated (by tracemalloc) grew by less than 30 kB in 4,156 requests. Of half an hour's hundred thousand
requests each would have to lose less than 340 bytes to stay below this."""
ANSWER_S = 5.0
"""Within which somebody has a whole answer, when the engine is back."""
MOST = 500  # characters of one
DISTINCT = 5  # examples of what is wrong, in a result


@dataclass(frozen=True)
class Siege:
    """All that is known afterwards.

    right: text of the known questions, asked alone. memory: anonymous bytes by process, after the warm-up and at the
    end, of those that lived so long. idle: /metrics at the end. log: what the server wrote.
    """

    visits: Sequence[Visit]
    right: Mapping[int, tuple[str, ...]]
    kills: Sequence[Kill]
    memory: Mapping[str, tuple[int, int]]
    idle: Mapping[str, float]
    log: Path


@dataclass(frozen=True)
class Check:
    """A sentence that must hold, and what speaks against it."""

    what: str
    against: list[str]

    @property
    def holds(self) -> bool:
        return not self.against


def check_all(siege: Siege) -> list[Check]:
    """Every check, with some examples of what is wrong."""
    return [Check(what, [str(each) for each in find(siege)][:DISTINCT]) for what, find in CHECKS.items()]


def _away(visit: Visit, kills: Sequence[Kill]) -> bool:
    """Whether the engine was away at some time of the visit."""
    return any(visit.began <= kill.ended and visit.ended >= kill.began for kill in kills)


def _unanswered(siege: Siege) -> Iterable[Any]:
    return (_brief(each) for each in siege.visits if each.end in ("late", "broken", "wrong"))


def _statuses(siege: Siege) -> Iterable[Any]:
    for each in siege.visits:
        if each.end == "left":
            continue
        mistake = each.question.replies == 0
        fine = 400 <= each.status < 500 if mistake else each.status in (200, 429)
        if not fine and not (each.status == 503 and _away(each, siege.kills)):
            yield _brief(each)


def _errors(siege: Siege) -> Iterable[Any]:
    return (_brief(each) for each in siege.visits if each.end == "error" and not _away(each, siege.kills))


def _changed(siege: Siege) -> Iterable[Any]:
    for each in siege.visits:
        if each.end == "whole" and each.status == 200 and each.question.known is not None:
            right = siege.right[each.question.known]
            if each.text != right:
                yield f"{_brief(each)}, alone {right}"


def _logged(siege: Siege) -> Iterable[Any]:
    lines: dict[str, list[int]] = defaultdict(list)
    for entry in access_log(siege.log):
        lines[entry["request_id"]].append(entry["status"])
    for each in siege.visits:
        statuses = lines.get(each.request_id, [])
        if len(statuses) > 1 if each.end == "left" else statuses != [each.status]:
            yield f"{_brief(each)}: logged with {statuses}"


def _busy(siege: Siege) -> Iterable[Any]:
    return (f"{name} is {siege.idle[name]:g}" for name, most in AT_REST.items() if siege.idle[name] > most)


def _grown(siege: Siege) -> Iterable[Any]:
    for name, (before, after) in siege.memory.items():
        if after - before > MEMORY_MARGIN:
            yield f"{name}: {before >> 20} MiB after the warm-up, {after >> 20} MiB at the end"


def _tracebacks(siege: Siege) -> Iterable[Any]:
    with siege.log.open(errors="replace") as lines:
        return [line.strip() for line in lines if line.startswith("Traceback")]


def _overload(siege: Siege) -> Iterable[Any]:
    if not any(each.status == 429 for each in siege.visits):
        yield "nobody was turned away"


def _survivors(siege: Siege) -> Iterable[Any]:
    for number, kill in enumerate(siege.kills):
        ends = killed_in_flight(siege.visits, kill)
        if not ends["error"]:
            yield f"kill {number}: {dict(ends)}"
    for each in siege.visits:
        for kill in siege.kills:
            inherited = each.request_id in kill.in_flight and each.ended > kill.ended
            if inherited and _good(each) and each.question.manner != "slow":
                yield f"{_brief(each)}: answered by the next engine"


def _recovered(siege: Siege) -> Iterable[Any]:
    following = [kill.began for kill in siege.kills[1:]]
    for number, (kill, end) in enumerate(zip(siege.kills, [*following, math.inf], strict=False)):
        if end - kill.ended > ANSWER_S and not any(
            kill.ended <= each.began and each.ended <= end and _good(each) for each in siege.visits
        ):
            yield f"kill {number}: no answer until the next"


def _good(visit: Visit) -> bool:
    return (visit.status, visit.end) == (200, "whole")


def killed_in_flight(visits: Sequence[Visit], kill: Kill) -> Counter[str]:
    """What became of those who were being answered; `error` is 503 or a stream that ends with one."""
    return Counter(
        "error" if each.end == "error" or each.status == 503 else f"{each.end} {each.status}"
        for each in visits
        if each.request_id in kill.in_flight
    )


AT_REST = {
    "ilmari:num_requests_running": 0,
    "ilmari:num_requests_waiting": 0,
    "ilmari:kv_cache_usage_perc": 0,
    "ilmari:http_requests_in_flight": 1,  # the question itself
}
"""Metrics when nobody else asks."""
CHECKS: Mapping[str, Callable[[Siege], Iterable[Any]]] = {
    "every request is answered, wholly and once, and to its question": _unanswered,
    "good requests get 200 or 429, mistakes 4xx, and 503 only while the engine is away": _statuses,
    "streams end with an error only where the engine died": _errors,
    "known questions have the answers that they have alone": _changed,
    "the access log has each answered request once, with its status": _logged,
    "nothing runs, waits or holds KV blocks at the end": _busy,
    "no process keeps more memory than after the warm-up": _grown,
    "no exception in the server's log": _tracebacks,
    "there was more than the server takes": _overload,
    "whoever was being answered by an engine that died got an error, or had the whole answer": _survivors,
    "after each death good requests are answered again": _recovered,
}


def access_log(path: Path) -> Iterable[dict[str, Any]]:
    """The entries of a server's log."""
    with path.open(errors="replace") as lines:
        for line in lines:
            if line.startswith("{"):
                yield json.loads(line)


def _brief(visit: Visit) -> str:
    asked = f"{visit.request_id} ({visit.question.kind}, {visit.question.manner})"
    return f"{asked}: {visit.status} {visit.end} {visit.detail} {visit.text}"[:MOST]
