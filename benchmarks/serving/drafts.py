"""What drafts from the prompt gain where a reply repeats it: the demo model, with them and without."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from benchmarks.serving import setup_demo
from benchmarks.serving.closed_loop import ask
from benchmarks.serving.processes import awake, pause
from benchmarks.serving.reply import Reply
from benchmarks.serving.rounds import Cases
from benchmarks.serving.servers import Server
from benchmarks.serving.setup import NO_DRAFTS, Bar, Part, Setup

PASSAGE = (
    "The smith looked into the forge on the first day and saw a bow of gold with a silver string. It was a fine bow, "
    "but it asked for a head every evening, so he broke it and threw the pieces back into the fire. On the second day "
    "a boat rose from the flames, red as copper; but it went to war by itself, and he cut it into splinters. On the "
    "third day there was a cow with golden horns, which slept in the woods and spilled its milk on the ground. On the "
    "fourth he found a plough that tilled other people's fields. Then he let the winds work the bellows for three days "
    "and three nights, and at last the mill was born: it ground flour on one side, salt on the second and coins on the "
    "third, and its lid was bright with stars.\n\n"
)
COPIES = 2
BEGINNING = "The smith looked into the forge"
NEW_TOKENS = 128
BAR = 1.5


def _ask(server: Server, seed: int) -> tuple[Reply, str]:
    """The passage goes on where it was left off; the number keeps the prefix cache from knowing the prompt."""
    prompt = f"Number {seed}.\n\n{PASSAGE * COPIES}{BEGINNING}"
    body = {"prompt": prompt, "max_tokens": NEW_TOKENS, "temperature": 0, "ignore_eos": True}
    with awake(server.pid):
        return asyncio.run(ask(server.address, body))


def _cases(setup: Setup) -> Cases:
    demo = setup_demo.artifact(setup.cache)
    servers = {"drafts": setup.serve(demo), "none": setup.serve(demo, *NO_DRAFTS)}
    for server in servers.values():
        pause(server.pid)

    def measure(seed: int) -> dict[str, float]:
        names = list(servers) if seed % 2 else list(servers)[::-1]
        answers = {name: _ask(servers[name], seed) for name in names}
        (drafted, text), (plain, plain_text) = answers["drafts"], answers["none"]
        return {
            "drafts_decode_tok_s": drafted.decode_tok_s,
            "none_decode_tok_s": plain.decode_tok_s,
            "speedup": drafted.decode_tok_s / plain.decode_tok_s,
            "same_text": float(text == plain_text),
        }

    return {"a passage repeated": {"ilmari, demo model": measure}}


def _bars(figures: Mapping[str, Any]) -> list[Bar]:
    ((each,),) = [who.values() for who in figures.values()]
    rates = {name: each[f"{name}_decode_tok_s"]["best"] for name in ("drafts", "none")}
    return [
        Bar("decode rate with drafts over without, bests", BAR, rates["drafts"] / rates["none"], least=True),
        Bar("share of rounds with the same text", 1.0, each["same_text"]["worst"], least=True),
    ]


PART = Part(_cases, _bars)
