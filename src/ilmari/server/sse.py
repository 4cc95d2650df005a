"""Server-sent events, as OpenAI's clients read them."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

from starlette.responses import StreamingResponse

from ilmari.server.errors import as_api_error

DONE = b"data: [DONE]\n\n"


def event(data: str) -> bytes:
    """One event; JSON has no line breaks of its own."""
    return f"data: {data}\n\n".encode()


async def event_stream(chunks: AsyncGenerator[Mapping[str, Any]]) -> StreamingResponse:
    """A stream of `chunks` as JSON. It begins with the first of them: what fails before is a reply with a status.

    What fails later ends the stream with an error in its place.
    """
    first = await anext(chunks)

    async def events() -> AsyncIterator[bytes]:
        try:
            yield event(_compact(first))
            async for chunk in chunks:
                yield event(_compact(chunk))
        except Exception as error:
            yield event(json.dumps(as_api_error(error).reply))
        else:
            yield DONE
        finally:
            await chunks.aclose()

    return StreamingResponse(events(), media_type="text/event-stream", headers={"cache-control": "no-store"})


def _compact(chunk: Mapping[str, Any]) -> str:
    return json.dumps(chunk, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
