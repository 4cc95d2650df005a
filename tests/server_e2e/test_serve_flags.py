"""Flags of `ilmari serve` that bound what a server takes: their effect, on one server that has them all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live_server import SECONDS, LiveServer, StartServer
from openai import OpenAI
from requests_to_tiny import body, chat, for_client

from ilmari.artifact.artifact import Artifact
from ilmari.engine.kv_cache import bytes_for

LENGTH = 320
"""Tokens of prompt and reply, and of the whole KV cache."""

CPU = min(os.sched_getaffinity(0))


@pytest.fixture(scope="module")
def bounded(start_server: StartServer, served_artifact: Path) -> Iterator[LiveServer]:
    """A server that takes little of everything."""
    cache_bytes = bytes_for(Artifact.open(served_artifact).manifest, LENGTH)
    lengths = f"--max-model-len {LENGTH} --kv-cache-memory-bytes {cache_bytes} --max-num-batched-tokens 6"
    server = start_server(*lengths.split(), *f"--max-num-seqs 6 --max-logprobs 2 --devices {CPU}-{CPU}".split())
    yield server
    server.wait_idle()
    server.stop()


@pytest.fixture(scope="module")
def asker(bounded: LiveServer) -> Iterator[OpenAI]:
    """Its client."""
    with OpenAI(base_url=f"{bounded.url}/v1", api_key="none", timeout=SECONDS, max_retries=0) as client:
        yield client


def test_a_small_cache_puts_replies_back_and_changes_none(bounded: LiveServer, asker: OpenAI) -> None:
    """Six replies need four times the memory that there is."""
    fields: dict[str, Any] = {"temperature": 1, "max_tokens": 200}
    together = chat(asker, **fields, n=6, seed=40)
    assert bounded.metric("ilmari:num_preemptions_total") > 0
    before = bounded.metric("ilmari:num_preemptions_total")
    alone = [chat(asker, **fields, seed=40 + index).choices[0].message.content for index in range(6)]
    assert [choice.message.content for choice in together.choices] == alone
    assert len(set(alone)) == 6
    assert bounded.metric("ilmari:num_preemptions_total") == before


def test_the_length_is_bounded(bounded: LiveServer, asker: OpenAI) -> None:
    assert bounded.get("/v1/models").json["data"][0]["max_model_len"] == LENGTH
    usage = chat(asker, max_tokens=None).usage
    assert usage is not None
    assert usage.total_tokens == LENGTH
    refused = bounded.post("/v1/completions", {"prompt": [5] * LENGTH})
    assert (refused.status, str(LENGTH - 1) in refused.error["message"]) == (400, True)


def test_a_long_prompt_is_read_in_pieces(asker: OpenAI) -> None:
    """It takes 50 steps, of which each adds a token to the reply beside it, until that is whole."""
    fields = body(prompt=[[7], [5] * 300], max_tokens=20, stream=True, cache_salt="pieces")
    with asker.completions.create(**for_client(fields)) as stream:
        choices = [choice for chunk in stream for choice in chunk.choices]
    end_of_reply = next(
        at for at, choice in enumerate(choices) if (choice.index, choice.finish_reason) == (0, "length")
    )
    begin_of_other = next(at for at, choice in enumerate(choices) if choice.index == 1)
    assert end_of_reply < begin_of_other


def test_one_rank_computes_where_it_is_told(bounded: LiveServer) -> None:
    (engine,) = bounded.engines
    assert os.sched_getaffinity(engine) == {CPU}


@pytest.mark.parametrize("field", ["logprobs", "prompt_logprobs"])
def test_logprobs_are_bounded(bounded: LiveServer, field: str) -> None:
    assert bounded.post("/v1/completions", body(prompt="a", **{field: 2})).status == 200
    refused = bounded.post("/v1/completions", body(prompt="a", **{field: 3}))
    assert (refused.status, refused.error["param"]) == (400, field)
