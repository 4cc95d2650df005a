"""How a server is asked: endpoint, model, and which of the fields that not all servers know."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ilmari.bench.serve.plan import Endpoint
from ilmari.bench.serve.prompts import Prompt

OPTIONAL = {
    "continuous_usage_stats": "running_usage",
    "stream_options": "usage",
    "ignore_eos": "ignore_eos",
}
"""Fields that not all servers know, the first two one within the other: what an error calls them, and here."""


@dataclass(frozen=True)
class Dialect:
    """ignore_eos: replies go on past their end. usage, running_usage: tokens are counted at the end of a stream, and
    in each event of it. extra: fields that the user adds or changes."""

    endpoint: Endpoint
    model: str
    ignore_eos: bool = True
    usage: bool = True
    running_usage: bool = True
    extra: Mapping[str, Any] = field(default_factory=dict)

    def body(self, prompt: Prompt) -> bytes:
        """A request for a streamed reply, as JSON."""
        fields: dict[str, Any] = {"model": self.model}
        if self.endpoint is Endpoint.COMPLETIONS:
            fields["prompt"] = prompt.content
        elif isinstance(prompt.content, str):
            fields["messages"] = [{"role": "user", "content": prompt.content}]
        else:
            fields["messages"] = prompt.content
        fields |= {"max_tokens": prompt.output_len, "temperature": 0, "stream": True}
        if self.ignore_eos:
            fields["ignore_eos"] = True
        if self.usage:
            running = {"continuous_usage_stats": True} if self.running_usage else {}
            fields["stream_options"] = {"include_usage": True, **running}
        return json.dumps({**fields, **self.extra}, ensure_ascii=False).encode()

    def without_what(self, error: str) -> tuple[str, Dialect] | None:
        """The field that an error complains of and the dialect without it; None if it is none of them."""
        for name, attribute in OPTIONAL.items():
            if name in error and getattr(self, attribute):
                changed: dict[str, Any] = {attribute: False}
                return name, replace(self, **changed)
        return None
