"""Which points a grid has, what is asked at them, and where."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ilmari.bench.serve.dialect import Dialect
from ilmari.bench.serve.plan import GRIDS, Dataset, Endpoint, Grid, Settings
from ilmari.bench.serve.prompts import WORDS, Prompt, PromptFile, Ruler, random_prompts
from ilmari.bench.serve.target import Target
from ilmari.errors import DataError, RequestError

RECIPE = Settings(
    base_url="http://x",
    endpoint=Endpoint.CHAT,
    model="m",
    dataset_name=Dataset.RANDOM,
    dataset_sha256=None,
    input_lens=GRIDS[Grid.RECIPE].input_lens,
    output_lens=GRIDS[Grid.RECIPE].output_lens,
    max_concurrencies=GRIDS[Grid.RECIPE].max_concurrencies,
    request_rates=(),
    num_prompts=None,
    num_warmups=1,
    seed=0,
    ignore_eos=True,
    percentiles=(99.0,),
)


def test_the_recipe_s_grid() -> None:
    points = RECIPE.points()
    assert [(point.input_len, point.output_len, point.max_concurrency, point.num_prompts) for point in points] == [
        (inputs, outputs, clients, 5 * clients)
        for inputs in (510, 1020, 2040)
        for outputs in (512, 1024, 2048)
        for clients in (1, 4, 8, 16)
    ]
    assert points[0].label == "510 in, 512 out, 1 client"


def test_rates_in_place_of_clients() -> None:
    points = replace(RECIPE, request_rates=(0.5, 2.0), input_lens=(None,), output_lens=(9,)).points()
    assert [(point.max_concurrency, point.request_rate, point.num_prompts) for point in points] == [
        (None, 0.5, 100),
        (None, 2.0, 100),
    ]
    assert points[0].label == "own prompts in, 9 out, 0.5 a second"
    assert replace(RECIPE, num_prompts=7).points()[3].num_prompts == 7


def test_settings_survive_json() -> None:
    settings = replace(RECIPE, goodput={"ttft": 200.0}, extra_body={"top_p": 0.5, "stop": ["x"]})
    assert json.loads(json.dumps(settings.fields())) == settings.fields()


@pytest.mark.parametrize(
    ("url", "target", "shown"),
    [
        ("http://127.0.0.1:8000", Target("127.0.0.1", 8000, False, "/v1"), "http://127.0.0.1:8000/v1"),
        ("https://api.example/v1/", Target("api.example", 443, True, "/v1"), "https://api.example/v1"),
        ("http://[::1]:80/proxy", Target("::1", 80, False, "/proxy/v1"), "http://[::1]/proxy/v1"),
        ("https://x:80/a/v2", Target("x", 80, True, "/a/v2"), "https://x:80/a/v2"),
    ],
)
def test_urls(url: str, target: Target, shown: str) -> None:
    assert Target.of(url) == target
    assert target.url == shown


@pytest.mark.parametrize(
    "url",
    [
        *("", "localhost:8000", "ftp://x", "http://", "http://x:y", "http://x:99999", "http://me@x", "http://x/?a=1"),
        *("http://x/ y", "http://x/ä", "http://[::1"),
    ],
)
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(RequestError, match="expected http://HOST:PORT"):
        Target.of(url)


def test_words_are_equally_long_and_all_different() -> None:
    assert {len(word) for word in WORDS} == {4}
    assert len(set(WORDS)) == len(WORDS) >= 64


@pytest.mark.parametrize(("fixed", "per_word"), [(0.0, 1.0), (9.0, 1.0), (31.0, 5.0)])
def test_prompts_are_as_long_as_the_server_counts(fixed: float, per_word: float) -> None:
    ruler = Ruler.of((2, round(fixed + 2 * per_word)), (34, round(fixed + 34 * per_word)))
    assert (ruler.fixed, ruler.per_word) == (fixed, per_word)
    for wanted in (50, 257, 2040):
        prompts = random_prompts(3, wanted, 8, ruler, np.random.default_rng(0), same=False)
        assert len({prompt.content for prompt in prompts}) == 3
        for prompt in prompts:
            assert isinstance(prompt.content, str)
            assert abs(fixed + per_word * len(prompt.content.split()) - wanted) <= per_word / 2
            assert prompt.output_len == 8
    with pytest.raises(RequestError, match=f"counts {fixed + per_word:.0f} tokens for a prompt of one word"):
        ruler.words(0)


def test_fixed_prompts_are_all_the_same() -> None:
    prompts = random_prompts(4, 20, 8, Ruler(), np.random.default_rng(0), same=True)
    assert len({prompt.content for prompt in prompts}) == 1


def test_own_prompts(tmp_path: Path) -> None:
    text = tmp_path / "prompts.txt"
    text.write_bytes("one\r\n\n zwei ä \n".encode())
    assert PromptFile.read(text).prompts(3, 8) == [Prompt("one", 8), Prompt(" zwei ä ", 8), Prompt("one", 8)]
    messages = [{"role": "system", "content": "x"}, {"role": "user", "content": "y"}]
    rows = [{"prompt": "one", "more": 1}, {"messages": messages, "output_tokens": 5}]
    lines = tmp_path / "prompts.jsonl"
    lines.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert PromptFile.read(lines).prompts(2, 8) == [Prompt("one", 8), Prompt(messages, 5)]
    assert PromptFile.read(lines).sha256 != PromptFile.read(text).sha256


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("x.txt", b"\n \n", "has no prompts"),
        ("x.txt", b"\xff", "is no UTF-8 text"),
        ("x.jsonl", b'{"prompt": "x"}\n{', "line 2: expected a JSON object"),
        ("x.jsonl", b"[1]", "line 1: expected a JSON object"),
        ("x.jsonl", b'{"prompt": ""}', "line 1: expected a JSON object"),
        ("x.jsonl", b'{"messages": ["x"]}', "line 1: expected a JSON object"),
        ("x.jsonl", b'{"prompt": "x", "output_tokens": 0}', "line 1: expected a JSON object"),
        ("x.jsonl", b'{"prompt": "x", "output_tokens": true}', "line 1: expected a JSON object"),
    ],
)
def test_files_that_hold_no_prompts(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=words):
        PromptFile.read(tmp_path / name)
    with pytest.raises(DataError, match="cannot be read"):
        PromptFile.read(tmp_path / "absent")


def test_bodies() -> None:
    chat = Dialect(Endpoint.CHAT, "m", extra={"temperature": 0.5})
    body = json.loads(chat.body(Prompt("hi", 3)))
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 3,
        "temperature": 0.5,
        "stream": True,
        "ignore_eos": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }
    talk = [{"role": "user", "content": "x"}]
    assert json.loads(chat.body(Prompt(talk, 3)))["messages"] == talk
    plain = replace(chat, endpoint=Endpoint.COMPLETIONS, ignore_eos=False, running_usage=False)
    body = json.loads(plain.body(Prompt("hi", 3)))
    assert body["prompt"] == "hi"
    assert body["stream_options"] == {"include_usage": True}
    assert not {"messages", "ignore_eos"} & body.keys()


def test_fields_are_left_out_one_after_the_other() -> None:
    dialect = Dialect(Endpoint.CHAT, "m")
    left = []
    while changed := dialect.without_what("no ignore_eos, no stream_options.continuous_usage_stats"):
        name, dialect = changed
        left.append(name)
    assert left == ["continuous_usage_stats", "stream_options", "ignore_eos"]
    assert "stream_options" not in json.loads(dialect.body(Prompt("hi", 3)))
    assert Dialect(Endpoint.CHAT, "m").without_what("temperature") is None
