"""The demo model behind the server: words of a real vocabulary, real answers, and forms that they keep."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from four_ways import said_in_every_way
from live_server import MODEL, SECONDS, LiveServer, serve_command
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

ASK_WEATHER: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "How will the weather be in Oslo tomorrow?"}],
    "tools": [
        {
            "type": "function",
            "function": {"name": "get_weather", "description": "Weather of some days.", "parameters": WEATHER},
        },
        {"type": "code_interpreter"},
    ],
    "max_tokens": 120,
    "seed": 1,
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


def test_chat(demo: LiveServer) -> None:
    said = said_in_every_way(demo, model=MODEL, messages=QUESTION, max_tokens=60, temperature=0)
    assert "Paris" in said.text
    assert said.reason == "stop"


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


def test_json_schema(demo: LiveServer) -> None:
    schema = {"name": "weather", "schema": WEATHER, "strict": True}
    said = said_in_every_way(
        demo,
        model=MODEL,
        messages=[{"role": "user", "content": "Where should I look at the weather, as JSON?"}],
        response_format={"type": "json_schema", "json_schema": schema},
        max_tokens=120,
        seed=1,
    )
    assert said.reason == "stop"
    jsonschema_rs.validate(WEATHER, json.loads(said.text))


def test_forced_call(demo: LiveServer) -> None:
    said = said_in_every_way(demo, **ASK_WEATHER, tool_choice="required", parallel_tool_calls=False)
    assert (said.text, said.reason) == ("", "tool_calls")
    ((name, arguments),) = said.calls
    assert name == "get_weather"
    jsonschema_rs.validate(WEATHER, json.loads(arguments))
    assert min(said.pieces) > 1


@pytest.mark.parametrize("parallel", [True, False])
def test_calls_of_its_own_accord(demo: LiveServer, parallel: bool) -> None:
    """This tokenizer has no tokens for the markers, so the model writes them out; a regular expression sees to it."""
    call = r'<\|plugin\|>\n\{"name": "get_weather", "parameters": \{"city": "(Oslo|Bergen)", "days": [1-9]\}\}'
    code = r"<\|interpreter\|>\n```python\nprint\([0-9]{2} \* [0-9]{2}\)\n```"
    script = rf"I look\. <\|action_start\|>{call}<\|action_end\|><\|action_start\|>{code}<\|action_end\|>"
    choice = {"tool_choice": "auto", "parallel_tool_calls": parallel, "structured_outputs": {"regex": script}}
    said = said_in_every_way(demo, **ASK_WEATHER, **choice)
    assert (said.text, said.reason) == ("I look. ", "tool_calls")
    (name, arguments), *others = said.calls
    assert name == "get_weather"
    jsonschema_rs.validate(WEATHER, json.loads(arguments))
    assert min(said.pieces) > 1
    if parallel:
        ((name, arguments),) = others
        assert name == "python_interpreter"
        assert re.fullmatch(r"print\(\d\d \* \d\d\)", json.loads(arguments)["code"])
    else:
        assert others == []
