"""Asks one server for replies."""

from __future__ import annotations

import json
import time

from ilmari.bench.serve.client import Client
from ilmari.bench.serve.connection import LostError, Response
from ilmari.bench.serve.dialect import Dialect
from ilmari.bench.serve.prompts import Prompt
from ilmari.bench.serve.reading import ReplyReader, message_of
from ilmari.bench.serve.reply import Reply


class Asker:
    """A function from prompts to replies."""

    def __init__(self, client: Client, dialect: Dialect) -> None:
        self._client = client
        self._dialect = dialect

    async def __call__(self, prompt: Prompt) -> Reply:
        """Its streamed reply; whatever goes wrong is the reply's error.

        The clock starts when the request is ready to be sent: what opening a connection takes, where none is idle, is
        part of the wait, as it is for every client.
        """
        body = self._dialect.body(prompt)
        reply = Reply(time.perf_counter())
        reader = ReplyReader(reply)
        try:
            response = await self._client.post(self._dialect.endpoint.path, body, reader.take)
        except (LostError, OSError) as error:
            reply.error = str(error)
            return reply
        reply.status = response.status
        if response.status == 200:
            reader.end()
        else:
            reply.error = refusal(response)
        return reply


def refusal(response: Response) -> str:
    """What a response without success says."""
    text = response.body.decode(errors="replace").strip()
    try:
        text = message_of(json.loads(text))
    except ValueError:
        text = text[:300]
    return f"HTTP {response.status}: {text}".rstrip(": ")
