"""Grammars of calls, run by llguidance over real tokenizers: right replies pass, and wrong ones do not."""

from typing import Any

import pytest
from llguidance import LLMatcher
from tool_tokenizers import grammar_tokenizer

from ilmari.model.tokenizer import Tokenizer
from ilmari.server.tool_grammar import single_call_stop, tool_grammar
from ilmari.server.tools import read_tools


def function(name: str, **fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **fields}}


CITY = {
    "type": "object",
    "properties": {"city": {"$ref": "#/$defs/name"}, "days": {"type": "integer"}},
    "required": ["city"],
    "additionalProperties": False,
    "$defs": {"name": {"type": "string"}},
}
WEATHER = function("get_weather", parameters=CITY)
STRICT = function("get_weather", parameters=CITY, strict=True)
NOW = function("now")
ODD = function("odd", parameters={"properties": {"a": {"type": "string", "format": "no such format"}}})
CODE = {"type": "code_interpreter"}
NAMED = {"type": "function", "function": {"name": "get_weather"}}


def call(name: str, arguments: str) -> str:
    return f'<|action_start|><|plugin|>\n{{"name": "{name}", "parameters": {arguments}}}<|action_end|>'


GOOD = call("get_weather", '{"city": "上海", "days": 2}')
WRONG_FIELD = call("get_weather", '{"town": "x"}')
WRONG_TYPE = call("get_weather", '{"city": 1}')
RUN = "<|action_start|><|interpreter|>\n```python\nprint('``')\n```<|action_end|>"


def check(tokenizer: Tokenizer) -> None:
    vocabulary = grammar_tokenizer(tokenizer)

    def accepted(text: str, tools: list[Any], choice: Any, *, parallel: bool = True) -> bool:
        grammar = tool_grammar(read_tools(tools, choice, parallel=parallel), tokenizer.special_by_text)
        assert grammar is not None
        compiled = LLMatcher.grammar_from_lark(grammar)
        assert LLMatcher.validate_grammar(compiled, vocabulary) == ""
        matcher = LLMatcher(vocabulary, compiled)
        ids = tokenizer.encode(text, add_bos=False, parse_special=True)
        return matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()

    for tools, choice in (([WEATHER], "required"), ([NOW, WEATHER], NAMED), ([STRICT], "auto")):
        assert accepted(GOOD, tools, choice)
        for wrong in (WRONG_FIELD, WRONG_TYPE, call("other", "{}"), GOOD.removesuffix("<|action_end|>"), RUN):
            assert not accepted(wrong, tools, choice)
    assert not accepted("hi", [WEATHER], "required")
    assert not accepted("hi " + GOOD, [WEATHER], NAMED)
    assert not accepted(call("now", "{}"), [NOW, WEATHER], NAMED)
    assert accepted(call("now", "{}"), [NOW, WEATHER], "required")
    assert not accepted(call("now", '{"a": 1}'), [NOW, WEATHER], "required")
    assert accepted(GOOD + call("now", "{}"), [NOW, WEATHER], "required")
    assert not accepted(GOOD + GOOD, [WEATHER], "required", parallel=False)
    assert not accepted(GOOD + GOOD, [WEATHER], NAMED)
    assert accepted(call("odd", '{"a": "b", "c": [1, {}]}'), [ODD], "required")
    assert accepted(RUN, [WEATHER, CODE], "required")
    assert accepted(RUN, [WEATHER, CODE], {"type": "code_interpreter"})
    assert not accepted(GOOD, [WEATHER, CODE], {"type": "code_interpreter"})
    for text in ("hi", "", f"a {GOOD} b {RUN}", call("now", "{}")):
        assert accepted(text, [STRICT, NOW, CODE], "auto")
    assert accepted("a" + GOOD, [STRICT], "auto", parallel=False)
    if "<|action_start|>" in tokenizer.special_by_text:  # as text it may be anything else, too
        assert not accepted(GOOD + GOOD, [STRICT], "auto", parallel=False)


@pytest.mark.shared
def test_with_marker_tokens(internlm2: Tokenizer) -> None:
    check(internlm2)


@pytest.mark.demo_model
def test_with_markers_as_text(smollm: Tokenizer) -> None:
    check(smollm)


def test_replies_that_may_be_anything() -> None:
    assert tool_grammar(read_tools([WEATHER]), {}) is None
    assert tool_grammar(read_tools([STRICT], "none"), {}) is None
    assert tool_grammar(read_tools(None), {}) is None


def test_where_a_reply_with_one_call_ends() -> None:
    one = read_tools([WEATHER], parallel=False)
    assert single_call_stop(one, {"<|action_end|>": 92540}) == {"stop_token_ids": [92540]}
    assert single_call_stop(one, {}) == {"stop": ["<|action_end|>"]}
    assert single_call_stop(read_tools([WEATHER]), {}) == {}
    assert single_call_stop(read_tools([WEATHER], "none", parallel=False), {}) == {}
