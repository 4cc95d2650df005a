"""Stop strings in a stream against str.find on the whole text."""

from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ilmari.engine.stop_strings import StopStrings

FEW_LETTERS = st.text(alphabet="ab\u00e9", max_size=24)
STOPS = st.lists(st.text(alphabet="ab\u00e9", min_size=1, max_size=6), max_size=4)


def whole_text(text: str, stops: Sequence[str], include: bool) -> tuple[str, bool]:
    """The definition: the stop string that starts earliest, the shortest of those that start together."""
    first = min(((text.find(stop), len(stop)) for stop in stops if stop in text), default=None)
    if first is None:
        return text, False
    start, length = first
    return text[: start + length if include else start], True


def could_go_on(held: str, stops: Sequence[str]) -> bool:
    return any(stop != held and stop.startswith(held) for stop in stops)


@given(chunks=st.lists(FEW_LETTERS.map(lambda text: text[:5]), max_size=12), stops=STOPS, include=st.booleans())
@example(chunks=["a", "b", "a"], stops=["abab", "ba"], include=True)
@example(chunks=["abc", "x"], stops=["abcd", "bc"], include=False)
def test_any_chunking_shows_what_the_whole_text_would(chunks: list[str], stops: list[str], include: bool) -> None:
    stream = StopStrings(tuple(stops), include)
    text, shown, stopped = "", "", False
    for chunk in chunks:
        was_stopped = stopped
        piece, stopped = stream.push(chunk)
        assert not (was_stopped and (piece or not stopped)), "nothing is shown after a stop, and it stays stopped"
        text, shown = text + chunk, shown + piece
        if not stopped:
            held = text[len(shown) :]
            assert text.startswith(shown)
            assert held == "" or could_go_on(held, stops), "only the beginning of a stop string is held back"
    shown += stream.flush()
    assert (shown, stream.stopped) == whole_text(text, stops, include)
    assert stream.flush() == ""
    assert stream.stopped == whole_text(text, stops, include)[1]


@given(text=FEW_LETTERS, more=FEW_LETTERS, stops=STOPS)
def test_what_is_shown_is_never_taken_back(text: str, more: str, stops: list[str]) -> None:
    """Whatever the answer goes on with, the text shown so far begins the text shown in the end."""
    shown, _ = StopStrings(tuple(stops), include=False).push(text)
    assert whole_text(text + more, stops, include=False)[0].startswith(shown)


@given(text=FEW_LETTERS, stops=STOPS)
def test_a_stop_is_reported_as_soon_as_nothing_can_change_it(text: str, stops: list[str]) -> None:
    stream = StopStrings(tuple(stops), include=False)
    _, stopped = stream.push(text)
    outcome = whole_text(text, stops, include=False)
    later = {whole_text(text + stop[cut:], stops, include=False) for stop in stops for cut in range(len(stop))}
    assert stopped == (outcome[1] and later == {outcome})


@pytest.mark.parametrize(("include", "end"), [(False, ""), (True, "</s>")])
def test_a_stop_string_split_into_letters(include: bool, end: str) -> None:
    stream = StopStrings(("</s>",), include)
    assert [stream.push(letter) for letter in "a<</s>b"] == [
        ("a", False),
        ("", False),
        ("<", False),
        ("", False),
        ("", False),
        (end, True),
        ("", True),
    ]
    assert stream.flush() == ""


def test_a_beginning_that_comes_to_nothing_is_shown() -> None:
    stream = StopStrings(("\n\nUser:",), include=False)
    assert stream.push("Hi\n") == ("Hi", False)
    assert stream.push("\nUs") == ("", False)
    assert stream.push("ually.") == ("\n\nUsually.", False)
    assert stream.push("\n\n") == ("", False)
    assert stream.flush() == "\n\n"
    assert not stream.stopped


def test_the_end_of_the_text_settles_a_stop_that_waited() -> None:
    stream = StopStrings(("abcd", "bc"), include=False)
    assert stream.push("abc") == ("", False)
    assert stream.flush() == "a"
    assert stream.stopped


def test_without_stop_strings_text_passes_through() -> None:
    stream = StopStrings((), include=False)
    assert stream.push("any ") == ("any ", False)
    assert stream.flush() == ""
