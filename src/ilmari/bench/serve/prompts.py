"""What a server is asked: random words of a wanted number of tokens, the same prompt always, or prompts from a file."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ilmari.errors import DataError, RequestError

_WORDS = (
    "also area back bank bird blue body book case city cold dark data date deep door each east face fact farm fast "
    "fire fish food form free full game girl gold good hand hard head high hill home hour idea just kind king lake "
    "land last life line long made main many milk moon more name next only open part past rain real road"
)
WORDS = tuple(_WORDS.split())
"""Each is one token of nearly every vocabulary, with a space before it; and all are equally long, so that there are
equally many where a vocabulary does not know them."""


@dataclass(frozen=True)
class Prompt:
    """A text, or the messages of a conversation; and how many tokens the reply is to have."""

    content: str | list[dict[str, Any]]
    output_len: int


@dataclass(frozen=True)
class Ruler:
    """How many tokens a server counts for a prompt of random words: `fixed` (a chat template's, say), and per word."""

    fixed: float = 0.0
    per_word: float = 1.0

    @classmethod
    def of(cls, few: tuple[int, int], many: tuple[int, int]) -> Ruler:
        """From the words of two prompts and the tokens that were counted."""
        per_word = (many[1] - few[1]) / (many[0] - few[0])
        return cls(few[1] - per_word * few[0], per_word)

    def words(self, tokens: int) -> int:
        """How many give a prompt of that length.

        Raises:
            RequestError: not even one fits.
        """
        count = round((tokens - self.fixed) / self.per_word)
        if count < 1:
            raise RequestError(
                f"--input-len {tokens} is too short: this server counts {self.fixed + self.per_word:.0f} tokens for a "
                "prompt of one word, its chat template included."
            )
        return count


def random_text(words: int, rng: np.random.Generator) -> str:
    """So many random words."""
    return " ".join(WORDS[index] for index in rng.integers(len(WORDS), size=words))


def random_prompts(
    count: int, input_len: int, output_len: int, ruler: Ruler, rng: np.random.Generator, *, same: bool
) -> list[Prompt]:
    """Prompts of `input_len` tokens; `same`: all are the first one.

    Raises:
        RequestError: as `Ruler.words`.
    """
    words = ruler.words(input_len)
    if same:
        return [Prompt(random_text(words, rng), output_len)] * count
    return [Prompt(random_text(words, rng), output_len) for _ in range(count)]


@dataclass(frozen=True)
class PromptFile:
    """A user's own prompts; a row may say how many tokens its reply is to have."""

    rows: tuple[tuple[str | list[dict[str, Any]], int | None], ...]
    sha256: str

    @classmethod
    def read(cls, path: Path) -> PromptFile:
        """A .jsonl file of objects with `prompt` or `messages`, and `output_tokens` if they like; or a prompt a line.

        Raises:
            DataError: it cannot be read as that.
        """
        try:
            data = path.read_bytes()
            text = data.decode("utf-8")
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror}); name a file of prompts.") from error
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is no UTF-8 text (byte {error.start}); name a file of prompts.") from error
        lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        if path.suffix == ".jsonl":
            rows = tuple(_row(path, number, line) for number, line in lines)
        else:
            rows = tuple((line.rstrip("\r"), None) for _, line in lines)
        if not rows:
            raise DataError(f"{path} has no prompts; expected one a line.")
        return cls(rows, hashlib.sha256(data).hexdigest())

    def prompts(self, count: int, output_len: int) -> list[Prompt]:
        """The first so many, from the beginning again where there are fewer."""
        rows = itertools.islice(itertools.cycle(self.rows), count)
        return [Prompt(content, own or output_len) for content, own in rows]


def _row(path: Path, number: int, line: str) -> tuple[str | list[dict[str, Any]], int | None]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    content: Any = (row.get("prompt") or row.get("messages")) if isinstance(row, dict) else None
    length = row.get("output_tokens") if isinstance(row, dict) else None
    is_talk = isinstance(content, list) and all(isinstance(message, dict) for message in content)
    if (isinstance(content, str) or is_talk) and (length is None or (type(length) is int and length > 0)):
        return content, length
    raise DataError(
        f"{path}, line {number}: expected a JSON object with `prompt`, a text, or `messages`, a list, and "
        "`output_tokens`, a positive number, where there is one."
    )
