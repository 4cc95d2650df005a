"""What has to be known of a server before it can be measured: its model, the fields it takes, how it counts tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ilmari.bench.serve.asker import Asker, refusal
from ilmari.bench.serve.client import Client
from ilmari.bench.serve.connection import LostError
from ilmari.bench.serve.dialect import Dialect
from ilmari.bench.serve.prompts import Prompt, Ruler, random_text
from ilmari.bench.serve.reply import Reply
from ilmari.errors import ServerError

Note = Callable[[str], None]
"""Takes a sentence that the user should read."""

_FEW, _MANY = 2, 34
_WITHOUT = {
    "ignore_eos": "so replies may end before --output-len",
    "continuous_usage_stats": "so each event that brings text counts as one token; the totals are the server's own",
    "stream_options": "so words count as tokens in prompts, and events in replies",
}


@dataclass(frozen=True)
class Acquaintance:
    """max_model_len: tokens of prompt and reply together, where the server says so. ruler: what it counts for prompts
    of random words."""

    max_model_len: int | None
    dialect: Dialect
    ruler: Ruler


async def find_model(client: Client, wanted: str | None) -> tuple[str, int | None]:
    """The name of the model to ask, `wanted` or the only one; and its `max_model_len` if the server says so.

    Raises:
        ServerError: the server cannot be reached, or has no such model, or several.
    """
    try:
        response = await client.get("/models")
    except (LostError, OSError) as error:
        raise ServerError(f"{client.url} cannot be reached ({error}); start the server, or mend --base-url.") from error
    if response.status in (401, 403):
        raise ServerError(
            f"{client.url} asks for another API key ({refusal(response)}); give it with --api-key or OPENAI_API_KEY."
        )
    models = _listed(bytes(response.body)) if response.status == 200 else {}
    if wanted is None and len(models) == 1:
        (wanted,) = models
    if wanted is None:
        raise ServerError(
            f"{client.url} has several models; name one with --model: {', '.join(models)}."
            if models
            else f"{client.url}/models lists no models (HTTP {response.status}); name one with --model, or mend "
            "--base-url."
        )
    if models and wanted not in models:
        raise ServerError(f"{client.url} has no model {wanted!r}; --model can be {', '.join(models)}.")
    return wanted, models.get(wanted)


def _listed(body: bytes) -> dict[str, int | None]:
    """Names of models, and their lengths where they are given."""
    try:
        rows = json.loads(body)["data"]
        return {str(row["id"]): _length(row) for row in rows}
    except (ValueError, KeyError, TypeError):
        return {}


def _length(row: dict[str, Any]) -> int | None:
    length = row.get("max_model_len")
    return length if isinstance(length, int) else None


async def get_to_know(client: Client, dialect: Dialect, max_model_len: int | None, note: Note) -> Acquaintance:
    """Ask for two short replies, to prompts of few words and of many, in as many ways as it takes.

    Raises:
        ServerError: it answers none of them.
    """
    dialect, few = await _first_reply(client, dialect, note)
    many = await _ask(client, dialect, _MANY)
    if many.error is not None:
        raise _refused(client, dialect, many)
    if few.input_tokens is None or many.input_tokens is None or many.input_tokens <= few.input_tokens:
        if dialect.usage:
            note(f"The server does not count tokens, {_WITHOUT['stream_options']}.")
        return Acquaintance(max_model_len, dialect, Ruler())
    return Acquaintance(max_model_len, dialect, Ruler.of((_FEW, few.input_tokens), (_MANY, many.input_tokens)))


async def _first_reply(client: Client, dialect: Dialect, note: Note) -> tuple[Dialect, Reply]:
    """A reply, and the dialect in which it was got."""
    while True:
        reply = await _ask(client, dialect, _FEW)
        if reply.error is None:
            return dialect, reply
        changed = dialect.without_what(reply.error) if reply.status in (400, 422) else None
        if changed is None:
            raise _refused(client, dialect, reply)
        field, dialect = changed
        note(f"The server does not know {field}, {_WITHOUT[field]}.")


async def _ask(client: Client, dialect: Dialect, words: int) -> Reply:
    text = random_text(words, np.random.default_rng(words))
    return await Asker(client, dialect)(Prompt(text, 1))


def _refused(client: Client, dialect: Dialect, reply: Reply) -> ServerError:
    return ServerError(
        f"A first request to {client.url}{dialect.endpoint.path} failed ({reply.error}); look at --endpoint, --model "
        "and --base-url."
    )
