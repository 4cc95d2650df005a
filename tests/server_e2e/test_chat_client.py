"""The official client on /v1/chat/completions, whole and streamed: every field that it knows has its effect."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest
from bytes_tokenizer import chat_prompt, encode
from checkpoints import EOS
from live_server import MODEL
from openai import OpenAI
from requests_to_tiny import HELLO, LETTERS, chat, chat_stream, complete, text_of

PROMPT = chat_prompt(("user", HELLO[0]["content"]))


@pytest.fixture(scope="module")
def reply(client: OpenAI) -> str:
    """The most probable letters."""
    text = chat(client).choices[0].message.content
    assert text is not None
    assert len(text) == 24
    return text


def test_whole(client: OpenAI) -> None:
    before = int(time.time())
    answer = chat(client)
    assert answer.id.startswith("chatcmpl-")
    assert (answer.object, answer.model) == ("chat.completion", MODEL)
    assert before <= answer.created <= time.time()
    assert answer.system_fingerprint is not None
    (choice,) = answer.choices
    assert (choice.index, choice.finish_reason, choice.message.role) == (0, "length", "assistant")
    assert choice.logprobs is None
    assert choice.message.tool_calls is None
    assert chat(client).id != answer.id


def test_usage_is_exact(client: OpenAI) -> None:
    usage = chat(client, max_tokens=7, cache_salt="usage").usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (len(PROMPT), 7, len(PROMPT) + 7)
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == 0


def test_the_prompt_is_the_template_of_the_messages(client: OpenAI, reply: str) -> None:
    assert complete(client, PROMPT).choices[0].text == reply


def test_whole_conversation(client: OpenAI) -> None:
    turns = [("system", "Kort."), ("user", "a"), ("assistant", "b"), ("user", "c")]
    parts = [{"type": "text", "text": "c"}]
    messages: list[Any] = [{"role": role, "content": text} for role, text in turns[:-1]]
    answer = chat(client, messages=[*messages, {"role": "user", "content": parts}])
    expected = complete(client, chat_prompt(*turns)).choices[0].text
    assert answer.choices[0].message.content == expected


def test_continue_final_message(client: OpenAI) -> None:
    messages = [*HELLO, {"role": "assistant", "content": "Det går  "}]
    answer = chat(client, messages=messages, continue_final_message=True)
    assert answer.choices[0].message.content == complete(client, PROMPT + encode("Det går  ")).choices[0].text


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"n": 3, "temperature": 1, "seed": 5},
        {"logprobs": True, "top_logprobs": 3},
        {"temperature": 1, "seed": 7, "top_p": 0.9, "top_k": 20, "min_p": 0.01},
        {"temperature": 1, "seed": 8, "presence_penalty": 1.5, "frequency_penalty": -0.5, "repetition_penalty": 1.2},
        {"allowed_token_ids": None, "ignore_eos": False, "max_tokens": 200, "temperature": 1, "seed": 9},
    ],
    ids=["greedy", "n", "logprobs", "filters", "penalties", "any bytes"],
)
def test_stream_equals_whole(client: OpenAI, fields: dict[str, Any]) -> None:
    whole = chat(client, **fields)
    *chunks, last = chat_stream(client, stream_options={"include_usage": True}, **fields)
    assert last.choices == []
    assert last.usage is not None
    assert whole.usage is not None
    assert last.usage.completion_tokens == whole.usage.completion_tokens
    assert last.usage.prompt_tokens == whole.usage.prompt_tokens
    assert all(chunk.usage is None for chunk in chunks)
    for choice in whole.choices:
        assert text_of(chunks, choice.index) == choice.message.content
        streamed = [piece for chunk in chunks for piece in chunk.choices if piece.index == choice.index]
        assert [piece.finish_reason for piece in streamed if piece.finish_reason] == [choice.finish_reason]
        assert streamed[-1].finish_reason is not None
        if choice.logprobs is not None:
            tokens = [token for piece in streamed if piece.logprobs for token in piece.logprobs.content or ()]
            assert tokens == choice.logprobs.content


def test_every_chunk_belongs_to_the_same_reply(client: OpenAI) -> None:
    chunks = chat_stream(client, n=2)
    assert len(chunks) > 2
    assert len({(chunk.id, chunk.created, chunk.model, chunk.object) for chunk in chunks}) == 1
    assert chunks[0].object == "chat.completion.chunk"


def test_role_is_in_the_first_delta_only(client: OpenAI) -> None:
    chunks = chat_stream(client, n=2)
    for index in range(2):
        deltas = [choice.delta for chunk in chunks for choice in chunk.choices if choice.index == index]
        assert [delta.role for delta in deltas] == ["assistant"] + [None] * (len(deltas) - 1)


def test_without_stream_options_there_is_no_usage(client: OpenAI) -> None:
    assert all(chunk.usage is None and chunk.choices for chunk in chat_stream(client))


def test_n_replies_are_drawn_each_by_itself(client: OpenAI) -> None:
    first, again = (chat(client, n=4, temperature=1, seed=1) for _ in range(2))
    assert [choice.index for choice in first.choices] == [0, 1, 2, 3]
    texts = [choice.message.content for choice in first.choices]
    assert len(set(texts)) == 4
    assert texts == [choice.message.content for choice in again.choices]
    assert first.usage is not None
    assert (first.usage.prompt_tokens, first.usage.completion_tokens) == (len(PROMPT), 4 * 24)


def test_seed(client: OpenAI) -> None:
    texts = [chat(client, temperature=1, seed=seed).choices[0].message.content for seed in (3, 3, 4)]
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize("many", [False, True])
def test_stop_string(client: OpenAI, reply: str, many: bool) -> None:
    stop = reply[9:12]
    end = reply.index(stop)
    stops = ["zzzzz", stop, "ø", "\n"] if many else stop
    answer = chat(client, stop=stops)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (reply[:end], "stop")
    assert answer.usage is not None
    assert answer.usage.completion_tokens == end + len(stop)
    assert text_of(chat_stream(client, stop=stops)) == reply[:end]
    shown = chat(client, stop=stops, include_stop_str_in_output=True)
    assert shown.choices[0].message.content == reply[: end + len(stop)]


def test_a_stop_string_that_only_begins_is_text(client: OpenAI, reply: str) -> None:
    assert text_of(chat_stream(client, stop=reply[-3:] + "!")) == reply


def test_stop_token(client: OpenAI, reply: str) -> None:
    (token,) = encode(reply[5])
    answer = chat(client, stop_token_ids=[token])
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (
        reply[: reply.index(reply[5])],
        "stop",
    )


def test_max_completion_tokens(client: OpenAI, reply: str) -> None:
    answer = chat(client, max_tokens=None, max_completion_tokens=5)
    assert answer.choices[0].message.content == reply[:5]


def test_logprobs(client: OpenAI, reply: str) -> None:
    logprobs = chat(client, logprobs=True, top_logprobs=4).choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert "".join(token.token for token in logprobs.content) == reply
    for token in logprobs.content:
        assert bytes(token.bytes or ()).decode() == token.token
        best = [top.logprob for top in token.top_logprobs]
        assert len(best) == 4
        assert best == sorted(best, reverse=True)
        assert sum(map(math.exp, best)) <= 1 + 1e-6
        assert token.logprob <= best[0] <= 0


def test_bytes_of_logprobs_are_the_text(client: OpenAI) -> None:
    fields = {"allowed_token_ids": None, "temperature": 1, "seed": 2, "max_tokens": 100, "skip_special_tokens": False}
    choice = chat(client, logprobs=True, **fields).choices[0]
    assert choice.logprobs is not None
    data = b"".join(bytes(token.bytes or ()) for token in choice.logprobs.content or ())
    assert data.decode(errors="replace") == choice.message.content


def test_logit_bias_and_min_tokens(client: OpenAI) -> None:
    letter = encode("q")[0]
    assert chat(client, logit_bias={str(letter): 100}).choices[0].message.content == "q" * 24
    ending = {"ignore_eos": False, "allowed_token_ids": [*LETTERS, EOS], "logit_bias": {str(EOS): 100}}
    answer = chat(client, **ending)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("", "stop")
    answer = chat(client, **ending, min_tokens=5)
    assert len(answer.choices[0].message.content or "") == 5
    assert answer.choices[0].finish_reason == "stop"


def test_frequency_penalty(client: OpenAI) -> None:
    """The penalty of one use outweighs the difference between two letters that are biased alike, so all get a turn."""
    letters = encode("abc")
    fields = {"allowed_token_ids": letters, "max_tokens": 60}
    plain = chat(client, **fields).choices[0].message.content or ""
    evened = chat(client, frequency_penalty=2, **fields).choices[0].message.content or ""

    def spread(text: str) -> int:
        counts = [text.count(letter) for letter in "abc"]
        return max(counts) - min(counts)

    assert spread(evened) < spread(plain)
