"""Answers held to JSON schemas, regexes and grammars, with both kinds of vocabulary, and grammars refused."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import TINY_SIZES

from ilmari import LLM, SamplingParams, StructuredOutputs
from ilmari.checkpoint.tokenizer import tokenizer_files
from ilmari.engine.grammar import Grammars
from ilmari.engine.grammar_limits import MAX_WRITTEN_OUT, written_out
from ilmari.errors import RequestError
from ilmari.model.tokenizer import Tokenizer

NAMED = json.dumps(
    {"type": "object", "properties": {"名": {"type": "string"}}, "required": ["名"], "additionalProperties": False},
    ensure_ascii=False,
)


def converted(checkpoint: Path, vocab: int, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    for name, content in tokenizer_files(checkpoint, vocab).items():
        (folder / name).write_bytes(content)
    return Tokenizer.load(folder)


@pytest.fixture(scope="module")
def byte_level(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return converted(tiny_checkpoint, TINY_SIZES["vocab"], tmp_path_factory)


@pytest.fixture(scope="module")
def byte_fallback(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return converted(shared / "tokenizers" / "internlm2", 92544, tmp_path_factory)


@pytest.fixture(scope="module", params=["byte_level", pytest.param("byte_fallback", marks=pytest.mark.shared)])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    found: Tokenizer = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def grammars(tokenizer: Tokenizer) -> Grammars:
    return Grammars(tokenizer)


def may_be(grammars: Grammars, tokenizer: Tokenizer, structured: StructuredOutputs, text: str) -> bool:
    """Whether every token of the text is allowed in its place, and the end after the last."""
    constraint = grammars.constraint(structured)
    tokens = tokenizer.encode(text, add_bos=False)
    for place, token in enumerate(tokens):
        mask = constraint.allowed(tokens[:place])
        assert mask.shape == (tokenizer.vocab_size,)
        assert mask.any()
        if not mask[token]:
            return False
    return bool(constraint.allowed(tokens)[tokenizer.eos_token_id])


CASES: list[tuple[dict[str, Any], list[str], list[str]]] = [
    ({"json": NAMED}, ['{"名": "值"}', '{"名":""}', '{ "名" : "a\\n💧" }'], ['{"名": 1}', "{}", '{"名": "值"', "[]"]),
    ({"json": '{"enum": ["ja", 3, null]}'}, ['"ja"', "3", "null"], ['"nein"', "33", "nul"]),
    (
        {"json": '{"type": "array", "items": {"type": "integer"}, "maxItems": 2}'},
        ["[]", "[1, -2]"],
        ["[1,2,3]", "[.5]"],
    ),
    ({"json_object": True}, ["{}", '{"a": [1, {"b": null}]}'], ["[]", "3", '{"a"}']),
    ({"regex": "[a-c]{2}é+"}, ["abé", "cbééé"], ["ab", "adé", "abée"]),
    ({"grammar": 'start: "(" start ")" | "x"'}, ["x", "((x))"], ["(x", "()", "xx"]),
]


@pytest.mark.parametrize(("given", "good", "bad"), CASES, ids=lambda value: next(iter(value)))
def test_what_a_text_may_be(
    grammars: Grammars, tokenizer: Tokenizer, given: dict[str, Any], good: list[str], bad: list[str]
) -> None:
    structured = StructuredOutputs(**given)
    grammars.constraint(structured)
    assert [may_be(grammars, tokenizer, structured, text) for text in good] == [True] * len(good)
    assert [may_be(grammars, tokenizer, structured, text) for text in bad] == [False] * len(bad)


def test_after_the_end_only_stop_tokens_follow(grammars: Grammars, tokenizer: Tokenizer) -> None:
    constraint = grammars.constraint(StructuredOutputs(regex="abc"))
    tokens = tokenizer.encode("abc", add_bos=False)
    for output in (tokens, [*tokens, tokenizer.eos_token_id], [*tokens, *[tokenizer.eos_token_id] * 2]):
        assert set(np.flatnonzero(constraint.allowed(output))) == tokenizer.stop_token_ids


def test_asking_twice_changes_nothing(grammars: Grammars, tokenizer: Tokenizer) -> None:
    constraint = grammars.constraint(StructuredOutputs(json=NAMED))
    tokens = tokenizer.encode('{"名": "', add_bos=False)
    once = constraint.allowed(tokens).copy()
    np.testing.assert_array_equal(constraint.allowed(tokens), once)


NESTED = '{"items": ' * 65 + "{}" + "}" * 65

REFUSED = [
    ({"json": "{"}, "structured_outputs.json is not JSON"),
    ({"json": "3"}, "structured_outputs.json is a JSON int; it must be a JSON schema"),
    ({"json": '{"type": "objekt"}'}, "structured_outputs.json cannot be used (Invalid type: objekt); correct it."),
    ({"json": '{"$ref": "http://localhost/a"}'}, "does not fetch"),
    ({"json": '{"maximum": 1e999}'}, "structured_outputs.json cannot be used"),
    ({"json": NESTED}, "structured_outputs.json is nested deeper than 64 levels"),
    ({"json": "[" * 60_000}, "structured_outputs.json is nested deeper than 64 levels"),
    (
        {"json": json.dumps({"title": "a" * 65_536})},
        "structured_outputs.json has 65,549 bytes; it must have at most 65,536.",
    ),
    ({"json": '{"type": "string", "pattern": "(a{1000}){1000}"}'}, "A pattern of structured_outputs.json repeats"),
    (
        {"json": '{"x-guidance": {"whitespace_pattern": "(a{1000}){1000}"}}'},
        "A pattern of structured_outputs.json repeats",
    ),
    ({"regex": "(a"}, "structured_outputs.regex cannot be used"),
    ({"regex": "(?=a)b"}, "structured_outputs.regex cannot be used"),
    ({"regex": "a" * 4097}, "structured_outputs.regex has 4,097 bytes; it must have at most 4,096."),
    ({"regex": "(a{1000}){1000}"}, "structured_outputs.regex repeats its parts more than 20,000 times in all"),
    ({"regex": "\ud800"}, "structured_outputs.regex has a lone surrogate at character 0"),
    ({"grammar": "start: foo"}, "structured_outputs.grammar cannot be used"),
    ({"grammar": "start: A\nA: B{1000}\nB: /a{1000}/"}, "structured_outputs.grammar has counts whose product is above"),
    ({"grammar": "start: " + "(" * 100 + '"a"' + ")" * 100}, "structured_outputs.grammar is nested deeper than 64"),
    ({"grammar": 'start: "a"' + " " * 65_536}, "structured_outputs.grammar has 65,546 bytes"),
]


@pytest.mark.parametrize(("given", "sentence"), REFUSED, ids=lambda value: str(value)[:30])
def test_what_cannot_be_used_is_one_sentence(byte_level: Tokenizer, given: dict[str, Any], sentence: str) -> None:
    started = time.process_time()
    with pytest.raises(RequestError) as caught:
        Grammars(byte_level).constraint(StructuredOutputs(**given))
    message = str(caught.value)
    assert sentence in message
    assert len(message) < 350
    assert "\n" not in message
    assert message.endswith(".")
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("pattern", "size"),
    [
        ("", 0),
        ("abc", 3),
        ("a{3}b", 4),
        ("(ab){2,5}", 10),
        ("((a{3}b){2}c){4}", 36),
        ("[a{9}]{2}", 2),
        (r"\{9}a{2,}", 5),
        (r"[]a]{3}[^\]]{2}", 5),
        ("(a", 1),
        (")a{2}", 3),
        ("a{,4}", 4),
        ("a{x}", 4),
    ],
)
def test_how_long_a_regex_is_written_out(pattern: str, size: int) -> None:
    assert written_out(pattern) == size


def test_the_largest_that_is_taken_is_fast(byte_level: Tokenizer) -> None:
    count = int(MAX_WRITTEN_OUT**0.5)
    started = time.process_time()
    Grammars(byte_level).constraint(StructuredOutputs(regex=f"(a{{{count}}}){{{count}}}"))
    assert time.process_time() - started < 5


def test_a_model_answers_in_form(new_llm: Callable[..., LLM]) -> None:
    """Random weights, drawn from: nothing but the grammar makes sense of the answers."""
    llm = new_llm()

    def answer(prompt: str, **given: Any) -> str:
        params = SamplingParams(max_tokens=100, seed=3, structured_outputs=StructuredOutputs(**given))
        output = llm.generate(prompt, params)[0].outputs[0]
        assert output.finish_reason == "stop"
        return output.text

    schema = {
        "type": "object",
        "properties": {"名": {"enum": ["值", "b"]}, "n": {"type": "boolean"}},
        "required": ["名", "n"],
        "additionalProperties": False,
        "x-guidance": {"whitespace_flexible": False},
    }
    for prompt in ("a", "b", "c"):
        value = json.loads(answer(prompt, json=json.dumps(schema)))
        assert value["名"] in ("值", "b")
        assert isinstance(value["n"], bool)
        assert re.fullmatch("[a-c]{3}-[0-9]{2}", answer(prompt, regex="[a-c]{3}-[0-9]{2}"))


def test_a_grammar_that_cannot_be_used_is_refused_by_the_engine(new_llm: Callable[..., LLM]) -> None:
    llm = new_llm()
    with pytest.raises(RequestError, match=r"^structured_outputs\.regex cannot be used"):
        llm.generate("a", SamplingParams(structured_outputs=StructuredOutputs(regex="(a")))
