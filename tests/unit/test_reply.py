"""A reply on its way to stdout: whole, in order, and without power over the terminal."""

import time
from collections.abc import Iterator

import pytest

from ilmari.cli.reply import Reply, write_reply
from ilmari.engine.output import CompletionOutput, RequestOutput


def _request(text: str, tokens: int) -> RequestOutput:
    return RequestOutput(0, None, [1], [CompletionOutput(0, text, list(range(tokens)), None, None)])


def test_text_grows_and_ends_with_a_newline(capsys: pytest.CaptureFixture[str]) -> None:
    requests = [_request(text, count) for count, text in enumerate(["", "a", "a\x1b[31m", "a\x1b[31m\n\tö"], 1)]
    reply = write_reply(requests)
    assert reply.request is requests[-1]
    assert capsys.readouterr().out == "a\x1b[31m\n\tö\n"


def test_terminal_is_not_driven(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    write_reply([_request("\x1b[31m\r\x07\x9b\x7f\n\tö", 1)])
    assert capsys.readouterr().out == "\\x1b[31m\\x0d\\x07\\x9b\\x7f\n\tö\n"


@pytest.mark.parametrize(
    ("tokens", "first_after", "words"),
    [(0, None, "no token"), (1, 0.5, "1 token, the first after 0.50 s")],
)
def test_speed_of_few_tokens(tokens: int, first_after: float | None, words: str) -> None:
    assert Reply(_request("", tokens), first_after, 0.0).speed == words


def test_time_to_the_first_token_includes_the_steps_before_it() -> None:
    def steps() -> Iterator[RequestOutput]:
        for tokens in (0, 0, 1):
            time.sleep(0.05)
            yield _request("", tokens)

    first_after = write_reply(steps()).first_after
    assert first_after is not None
    assert first_after > 0.14


def test_reply_without_a_token_has_no_first_one() -> None:
    assert write_reply([_request("", 0)] * 2).first_after is None


def test_speed_counts_from_the_first_token() -> None:
    assert Reply(_request("", 21), 0.5, 2.0).speed == "21 tokens, the first after 0.50 s, then 10.0 tokens/s"
