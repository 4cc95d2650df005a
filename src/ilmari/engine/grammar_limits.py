"""How large a grammar may be, so that none keeps the machine busy for long."""

import json
import re
from typing import Any, Final

from ilmari.errors import RequestError

MAX_GRAMMAR_BYTES: Final = 64 * 1024  # of a JSON schema, and of a Lark grammar
MAX_NESTING: Final = 64
MAX_REGEX_BYTES: Final = 4 * 1024
MAX_WRITTEN_OUT: Final = 20_000
"""Parts of a regex once its counted repetitions are written out, one after the other; 300,000 take a second."""

_PATTERN_KEYS = ("pattern", "whitespace_pattern")  # the second is llguidance's own, below "x-guidance"
_COUNT = re.compile(r"\{\s*(\d*)\s*(?:,\s*(\d*)\s*)?\}")
_LARK_COUNT = re.compile(r"\{\s*(\d*)\s*(?:,\s*(\d*)\s*)?\}|~\s*(\d+)(?:\s*\.\.\s*(\d+))?")


def check_json_schema(text: str) -> None:
    """
    Raises:
        RequestError: no JSON, longer than `MAX_GRAMMAR_BYTES`, deeper than `MAX_NESTING`, or with a pattern that
            `check_regex` refuses.
    """
    name = "structured_outputs.json"
    _check_size(name, text, MAX_GRAMMAR_BYTES)
    if _depth(text) > MAX_NESTING:
        raise RequestError(f"{name} is nested deeper than {MAX_NESTING} levels; give a flatter schema.")
    try:
        schema = json.loads(text)
    except ValueError as error:
        raise RequestError(f"{name} is not JSON ({error}); give a JSON schema as text.") from error
    if not isinstance(schema, dict | bool):
        raise RequestError(f"{name} is a JSON {type(schema).__name__}; it must be a JSON schema, which is an object.")
    for pattern in _patterns(schema):
        check_regex(f"A pattern of {name}", pattern)


def check_regex(name: str, pattern: str) -> None:
    """
    Raises:
        RequestError: longer than `MAX_REGEX_BYTES`, or than `MAX_WRITTEN_OUT` when its repetitions are written out.
    """
    _check_size(name, pattern, MAX_REGEX_BYTES)
    if written_out(pattern) > MAX_WRITTEN_OUT:
        raise RequestError(
            f"{name} repeats its parts more than {MAX_WRITTEN_OUT:,} times in all; use smaller counts, or * and +."
        )


def check_lark(text: str) -> None:
    """
    Raises:
        RequestError: longer than `MAX_GRAMMAR_BYTES`, deeper than `MAX_NESTING`, or with counts whose product, as if
            each held the others, is above `MAX_WRITTEN_OUT`.
    """
    name = "structured_outputs.grammar"
    _check_size(name, text, MAX_GRAMMAR_BYTES)
    if _depth(text) > MAX_NESTING:
        raise RequestError(f"{name} is nested deeper than {MAX_NESTING} levels; give parts of it names of their own.")
    product = 1
    for found in _LARK_COUNT.finditer(text):
        product *= max(1, *(_count(number) for number in found.groups()))
        if product > MAX_WRITTEN_OUT:
            raise RequestError(f"{name} has counts whose product is above {MAX_WRITTEN_OUT:,}; use fewer, or * and +.")


def written_out(pattern: str) -> int:
    """Characters, classes and escapes of a regex, each as often as the counts around it say.

    A pattern that is not well-formed has some number as well.
    """
    sizes, last, at = [0], 0, 0  # of the groups that are open; of the last atom, which is in its group's size already
    while at < len(pattern):
        found = _COUNT.match(pattern, at)
        if found and (found[1] or found[2]):
            repeated = last * max(1, _count(found[1]), _count(found[2]))
            sizes[-1] += repeated - last
            last, at = repeated, found.end()
            continue
        symbol = pattern[at]
        at += 1
        if symbol == "(":
            sizes.append(0)
        elif symbol == ")" and len(sizes) > 1:
            last = sizes.pop()
            sizes[-1] += last
        else:
            if symbol == "\\":
                at += 1
            elif symbol == "[":
                at = _class_end(pattern, at)
            last = 1
            sizes[-1] += 1
    return sum(sizes)


def _class_end(pattern: str, at: int) -> int:
    """After the bracket that ends a class whose content begins at `at`."""
    found = re.compile(r"\^?\]?(?:[^\]\\]|\\.)*\]", re.DOTALL).match(pattern, at)
    return found.end() if found else len(pattern)


def _count(digits: str | None) -> int:
    """A count of up to 9 digits; more of them are as good as too many."""
    return int(digits[:9]) if digits else 0


def _check_size(name: str, text: str, most: int) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise RequestError(f"{name} has a lone surrogate at character {error.start}; give valid Unicode.") from error
    if size > most:
        raise RequestError(f"{name} has {size:,} bytes; it must have at most {most:,}.")


def _depth(text: str) -> int:
    """The most brackets that are open at once, those in quoted strings not counted."""
    outside = re.sub(r'"(?:[^"\\]|\\.)*"', "", text)
    depth = deepest = 0
    for bracket in re.findall(r"[\[\](){}]", outside):
        depth += 1 if bracket in "[({" else -1
        deepest = max(deepest, depth)
    return deepest


def _patterns(schema: Any) -> list[str]:
    """The regexes of a schema, wherever they are."""
    found: list[str] = []
    waiting = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting += node
        elif isinstance(node, dict):
            found += [node[key] for key in _PATTERN_KEYS if isinstance(node.get(key), str)]
            if isinstance(node.get("patternProperties"), dict):
                found += node["patternProperties"]
            waiting += node.values()
    return found
