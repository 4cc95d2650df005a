"""The mixed traffic of a soak: every kind of request, good and bad, and every manner of asking."""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
Manner = Literal["patient", "slow", "leaving", "half"]

OPENINGS = ("Once upon a time ", "The second law says ", "def main(): ", "从前有座山，", "")
SCHEMA = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 8}}, "required": ["name"]}
TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Looks a word up.",
        "parameters": {"type": "object", "properties": {"word": {"type": "string", "maxLength": 8}}},
    },
}


@dataclass(frozen=True)
class Question:
    """A request as one client makes it.

    replies: how many choices it asks for; 0: it is a mistake, to be answered with a status from 400 to 499.
    patience: seconds after which a client that leaves does so; known: its number among those whose answer is known.
    """

    kind: str
    path: str
    body: dict[str, Any] | bytes
    replies: int = 1
    manner: Manner = "patient"
    patience: float = 0.0
    known: int | None = None
    method: str = "POST"


@dataclass(frozen=True)
class Limits:
    """Of the model that is asked: tokens of prompt and reply together, and of a prompt; whether it takes tools."""

    max_len: int
    max_prompt_len: int
    vocab_size: int
    tools: bool


def _text(rng: random.Random, limits: Limits) -> str:
    """Of at most a sixth of the model's length in bytes: byte tokenizers have no longer tokens."""
    words = " ".join("".join(rng.choices(string.ascii_lowercase, k=rng.randint(1, 8))) for _ in range(3))
    return (rng.choice(OPENINGS) + words)[: limits.max_len // 6]


def _ids(rng: random.Random, limits: Limits) -> list[int]:
    return [rng.randrange(3, limits.vocab_size) for _ in range(rng.randint(1, limits.max_len // 4))]


def _tokens(rng: random.Random, limits: Limits) -> int:
    return rng.randint(1, min(96, limits.max_len // 4))


def _messages(rng: random.Random, limits: Limits) -> list[dict[str, str]]:
    return [{"role": "user", "content": _text(rng, limits)}]


Make = Callable[[random.Random, Limits], dict[str, Any]]

COMPLETION_KINDS: Mapping[str, Make] = {
    "text": lambda rng, limits: {"prompt": _text(rng, limits)},
    "ids": lambda rng, limits: {"prompt": _ids(rng, limits), "ignore_eos": True},
    "seeded": lambda rng, limits: {"prompt": _text(rng, limits), "seed": rng.randrange(9), "top_p": 0.9},
    "two replies": lambda rng, limits: {"prompt": _text(rng, limits), "n": 2},
    "logprobs": lambda rng, limits: {"prompt": _text(rng, limits), "logprobs": rng.randint(0, 5)},
    "echo": lambda rng, limits: {"prompt": _text(rng, limits), "echo": True},
    "stop": lambda rng, limits: {"prompt": _text(rng, limits), "stop": ["e", " t"]},
    "penalties": lambda rng, limits: {"prompt": _text(rng, limits), "presence_penalty": 1.0, "repetition_penalty": 1.2},
    "regex": lambda rng, limits: {"prompt": _text(rng, limits), "structured_outputs": {"regex": "[a-f]{1,20}"}},
}
CHAT_KINDS: Mapping[str, Make] = {
    "chat": lambda rng, limits: {"messages": _messages(rng, limits)},
    "json": lambda rng, limits: {"messages": _messages(rng, limits), "response_format": {"type": "json_object"}},
    "schema": lambda rng, limits: {
        "messages": _messages(rng, limits),
        "response_format": {"type": "json_schema", "json_schema": {"name": "it", "schema": SCHEMA}},
    },
    "tools": lambda rng, limits: {"messages": _messages(rng, limits), "tools": [TOOL], "tool_choice": "required"},
}
MISTAKES: Mapping[str, tuple[str, dict[str, Any] | bytes]] = {
    "no JSON": (COMPLETIONS, b'{"prompt": '),
    "unknown field": (COMPLETIONS, {"prompt": "x", "colour": "red"}),
    "no tokens": (COMPLETIONS, {"prompt": "x", "max_tokens": -1}),
    "too many replies": (COMPLETIONS, {"prompt": "x", "n": 10**9}),
    "foreign token": (COMPLETIONS, {"prompt": [10**9]}),
    "long prompt": (COMPLETIONS, {"prompt": "long " * 20_000}),
    "many logprobs": (COMPLETIONS, {"prompt": "x", "logprobs": 10**6}),
    "hot": (COMPLETIONS, {"prompt": "x", "temperature": "hot"}),
    "foreign model": (COMPLETIONS, {"prompt": "x", "model": "somebody-else"}),
    "silence": (CHAT, {"messages": []}),
    "picture": (CHAT, {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}),
    "no such place": ("/v1/nowhere", {}),
}
MISTAKE_SHARE, CHAT_SHARE, KNOWN_SHARE, STREAM_SHARE = 0.15, 0.3, 0.2, 0.6
MANNERS: Mapping[Manner, float] = {"patient": 0.65, "leaving": 0.2, "slow": 0.1, "half": 0.05}
LONGEST_PATIENCE = 1.0
KNOWN = 12


def known_questions(limits: Limits) -> list[Question]:
    """Those with one right answer, whatever else the server does: greedy, or with a seed."""
    rng = random.Random(0)
    drawn = [{"temperature": 0}, {"temperature": 1.0, "seed": 7}]
    return [
        Question(
            "known",
            COMPLETIONS,
            {"prompt": _text(rng, limits), "max_tokens": _tokens(rng, limits), **drawn[number % len(drawn)]},
            known=number,
        )
        for number in range(KNOWN)
    ]


def filling_questions(limits: Limits, running: int) -> list[Question]:
    """Prompts that together use as many blocks of the KV cache as that many replies of full length."""
    rng = random.Random(1)
    length = min(limits.max_prompt_len, limits.max_len - 1)
    count = -(-running * limits.max_len // length)
    prompts = [[rng.randrange(3, limits.vocab_size) for _ in range(length)] for _ in range(count)]
    return [
        Question("filling", COMPLETIONS, {"prompt": prompt, "max_tokens": 1, "ignore_eos": True}) for prompt in prompts
    ]


def random_question(rng: random.Random, limits: Limits) -> Question:
    """Any."""
    if rng.random() < MISTAKE_SHARE:
        name = rng.choice(list(MISTAKES))
        path, body = MISTAKES[name]
        return Question(name, path, body, replies=0)
    question = _good_question(rng, limits)
    assert isinstance(question.body, dict)
    manner = rng.choices(list(MANNERS), list(MANNERS.values()))[0]
    body = {**question.body, "stream": rng.random() < STREAM_SHARE}
    if body["stream"]:
        body["stream_options"] = {"include_usage": True}
    if manner == "slow" and question.path == COMPLETIONS and question.known is None:
        body["logprobs"] = 5  # so much that it does not fit into what is under way
    return replace(question, body=body, manner=manner, patience=rng.uniform(0, LONGEST_PATIENCE))


def _good_question(rng: random.Random, limits: Limits) -> Question:
    if rng.random() < KNOWN_SHARE:
        return rng.choice(known_questions(limits))
    if rng.random() < CHAT_SHARE:
        kinds = [kind for kind in CHAT_KINDS if limits.tools or kind != "tools"]
        kind = rng.choice(kinds)
        return Question(kind, CHAT, {**CHAT_KINDS[kind](rng, limits), "max_tokens": _tokens(rng, limits)})
    kind = rng.choice(list(COMPLETION_KINDS))
    body = {**COMPLETION_KINDS[kind](rng, limits), "max_tokens": _tokens(rng, limits)}
    return Question(kind, COMPLETIONS, body, replies=body.get("n", 1))
