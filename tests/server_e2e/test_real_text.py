"""The demo model behind the server: words of a real vocabulary, real answers, and forms that they keep."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from live_server import SECONDS, LiveServer, serve_command
from openai import OpenAI
from requests_to_tiny import complete, complete_stream

from ilmari.compile.config import load_config
from ilmari.compile.pipeline import compile_model
from ilmari.demo.recipe import write_recipe

pytestmark = [
    pytest.mark.demo_model,
    pytest.mark.slow,
    pytest.mark.timeout(600),  # the model is compiled first
    pytest.mark.usefixtures("kernels_compiled_once"),
]

FREE = {"allowed_token_ids": None, "ignore_eos": False}
CAPITAL = "The capital of France is"
QUESTION: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 20},
        "days": {"type": "integer", "minimum": 1, "maximum": 9},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def demo(demo_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server of the demo's int8 model."""
    folder = tmp_path_factory.mktemp("demo_served")
    artifact = compile_model(load_config(write_recipe(folder, demo_checkpoint, "int8")), report=lambda *_: None)
    server = LiveServer(serve_command(artifact), folder / "log")
    try:
        yield server
        server.wait_idle()
        server.stop()
    finally:
        server.kill()
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def asker(demo: LiveServer) -> Iterator[OpenAI]:
    """Its client."""
    with OpenAI(base_url=f"{demo.url}/v1", api_key="none", timeout=2 * SECONDS, max_retries=0) as client:
        yield client


def test_it_knows(demo: LiveServer, asker: OpenAI) -> None:
    answer = complete(asker, CAPITAL, max_tokens=12, **FREE)
    assert answer.choices[0].text.startswith(" Paris")
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == demo.post("/tokenize", {"prompt": CAPITAL}).json["count"]


def test_chat(asker: OpenAI) -> None:
    fields: dict[str, Any] = {"model": "tiny", "messages": QUESTION, "max_tokens": 60, "temperature": 0}
    whole = asker.chat.completions.create(**fields)
    text = whole.choices[0].message.content
    assert text is not None
    assert "Paris" in text
    assert whole.choices[0].finish_reason == "stop"
    with asker.chat.completions.create(stream=True, **fields) as stream:
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == text


def test_stop_strings_inside_of_tokens(asker: OpenAI) -> None:
    text = complete(asker, CAPITAL, max_tokens=30, **FREE).choices[0].text
    for stop in (text[3:5], text[5:9], text[2:12]):
        expected = text[: text.index(stop)]
        assert complete(asker, CAPITAL, max_tokens=30, stop=stop, **FREE).choices[0].text == expected
        chunks = complete_stream(asker, CAPITAL, max_tokens=30, stop=stop, **FREE)
        assert "".join(chunk.choices[0].text for chunk in chunks) == expected
        assert chunks[-1].choices[0].finish_reason == "stop"


def test_tokens_of_logprobs_are_the_text(asker: OpenAI) -> None:
    choice = complete(asker, CAPITAL, max_tokens=20, echo=True, logprobs=1, **FREE).choices[0]
    assert choice.logprobs is not None
    assert choice.logprobs.tokens is not None
    tokens = choice.logprobs.tokens
    assert "".join(tokens).endswith(choice.text)


def test_same_seed_same_text_at_any_batch_size(asker: OpenAI) -> None:
    def ask(seed: int) -> str:
        fields = {"max_tokens": 24, "temperature": 0.8, "top_p": 0.95, "seed": seed}
        return complete(asker, CAPITAL + " " * (seed % 3), **fields, **FREE).choices[0].text

    alone = [ask(seed) for seed in range(6)]
    assert len(set(alone)) == 6
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(ask, range(6))) == alone


def test_json_schema(asker: OpenAI) -> None:
    schema = {"name": "weather", "schema": WEATHER, "strict": True}
    answer = asker.chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": "Where should I look at the weather, as JSON?"}],
        response_format={"type": "json_schema", "json_schema": schema},
        max_tokens=120,
        seed=1,
    )
    assert answer.choices[0].finish_reason == "stop"
    jsonschema_rs.validate(WEATHER, json.loads(answer.choices[0].message.content or ""))


def test_forced_call(asker: OpenAI) -> None:
    function = {"name": "get_weather", "description": "Weather of some days.", "parameters": WEATHER}
    fields: dict[str, Any] = {
        "model": "tiny",
        "messages": [{"role": "user", "content": "How will the weather be in Oslo tomorrow?"}],
        "tools": [{"type": "function", "function": function}],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "max_tokens": 120,
        "seed": 1,
    }
    choice = asker.chat.completions.create(**fields).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert call.type == "function"
    assert call.function.name == "get_weather"
    jsonschema_rs.validate(WEATHER, json.loads(call.function.arguments))
    with asker.chat.completions.create(stream=True, **fields) as stream:
        deltas = [piece for chunk in stream for c in chunk.choices for piece in c.delta.tool_calls or ()]
    assert "".join(piece.function.arguments or "" for piece in deltas if piece.function) == call.function.arguments
