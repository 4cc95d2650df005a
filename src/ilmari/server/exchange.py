"""One request and its reply, as the middlewares and the endpoints share it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from starlette.requests import Request


@dataclass
class Exchange:
    """What is known of a request so far, for the access log, the metrics and the prefix cache; never its text.

    key: the place of its API key among the server's, None where there are none. began: monotonic seconds.
    """

    id: str
    key: int | None = None
    model: str | None = None
    user: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    began: float = field(default_factory=time.monotonic)


def exchange_of(request: Request) -> Exchange:
    """The exchange that `AccessLog` began."""
    exchange = request.state.exchange
    assert isinstance(exchange, Exchange)
    return exchange
