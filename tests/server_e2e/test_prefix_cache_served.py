"""The prefix cache as clients see it: counted in `usage` and /metrics, and without any effect on a reply."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from live_server import SECONDS, LiveServer, StartServer
from openai import OpenAI
from requests_to_tiny import complete

PREFIX = [11 + place % 50 for place in range(700)]
PROMPTS = [[*PREFIX, *[70 + index] * 5] for index in range(4)]


@pytest.fixture(scope="module")
def uncached(start_server: StartServer) -> Iterator[OpenAI]:
    """A client of a server without the cache."""
    server = start_server("--no-enable-prefix-caching")
    with OpenAI(base_url=f"{server.url}/v1", api_key="none", timeout=SECONDS, max_retries=0) as client:
        yield client
    server.stop()


@pytest.mark.parametrize("fields", [{}, {"temperature": 1, "seed": 5}], ids=["greedy", "drawn"])
def test_cache_equals_no_cache(server: LiveServer, client: OpenAI, uncached: OpenAI, fields: dict[str, float]) -> None:
    before = server.metric("ilmari:prefix_cache_hits_total")
    for prompt in PROMPTS:
        first, again, plain = (
            complete(where, prompt, max_tokens=40, logprobs=1, **fields) for where in (client, client, uncached)
        )
        assert first.choices[0].text == again.choices[0].text == plain.choices[0].text
        assert first.usage is not None
        assert again.usage is not None
        assert plain.usage is not None
        assert again.usage.prompt_tokens_details is not None
        assert plain.usage.prompt_tokens_details is not None
        assert (again.usage.prompt_tokens_details.cached_tokens or 0) > 600
        assert plain.usage.prompt_tokens_details.cached_tokens == 0
        assert first.usage.prompt_tokens == again.usage.prompt_tokens == plain.usage.prompt_tokens == len(prompt)
    assert server.metric("ilmari:prefix_cache_hits_total") > before + 600


def test_blocks_come_back(server: LiveServer) -> None:
    """What the cache holds is free for others."""
    server.wait_idle()
