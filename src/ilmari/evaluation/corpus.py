"""A text on disk, as token ids in windows that know nothing of each other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ilmari.artifact.manifest import Manifest
from ilmari.errors import DataError, RequestError
from ilmari.model.tokenizer import Tokenizer

WINDOW = 1024
_BETWEEN_DOCUMENTS = "\n\n"


@dataclass(frozen=True)
class Corpus:
    """Token ids of a text, without bos, and the length of the windows in which a model reads them."""

    ids: Sequence[int]
    window: int

    @classmethod
    def read(cls, path: Path, tokenizer: Tokenizer, window: int, tokens: int | None = None) -> Corpus:
        """The first `tokens` tokens of a file, or all of them.

        A `.jsonl` has a document on each line, under the key `text`, which are tokenized one by one with an empty line
        after each; any other file is one document. Both are UTF-8, with or without a byte order mark.

        Raises:
            DataError: the file cannot be read, is not of its form, or has fewer than `tokens` tokens, or than two.
        """
        ids: list[int] = []
        for document in _documents(path):
            ids += tokenizer.encode(document, add_bos=False)
            if tokens is not None and len(ids) >= tokens:
                break
        if len(ids) < (wanted := 2 if tokens is None else tokens):
            raise DataError(f"{path} has {len(ids):,} tokens, and {wanted:,} are needed; give a longer text.")
        return cls(ids[:tokens], window)

    @property
    def windows(self) -> list[Sequence[int]]:
        """Its tokens in order; the last window may be shorter, but never a single token, which predicts nothing."""
        windows = [self.ids[start : start + self.window] for start in range(0, len(self.ids), self.window)]
        return windows if len(windows[-1]) > 1 else windows[:-1]

    @property
    def sha256(self) -> str:
        """Digest of the token ids, hexadecimal."""
        return hashlib.sha256(np.array(self.ids, "<i4").tobytes()).hexdigest()


def window_length(asked: int | None, manifests: Sequence[Manifest]) -> int:
    """Tokens of a window that all artifacts take: those asked for, or `WINDOW`, or fewer where an artifact's limit is.

    Raises:
        RequestError: more are asked for than an artifact takes.
    """
    tightest = min(manifests, key=lambda manifest: manifest.max_seq_len)
    limit = tightest.max_seq_len
    if asked is not None and asked > limit:
        raise RequestError(
            f"--window is {asked} and {tightest.name} takes {limit} tokens; give {limit} or less, or compile the model "
            "with a longer frontend.shape.input_ids."
        )
    return min(WINDOW, limit) if asked is None else asked


def _documents(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            if path.suffix != ".jsonl":
                yield file.read()
                return
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _text_of(line, f"{path}, line {number}") + _BETWEEN_DOCUMENTS
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}; give a text file.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason}); give a text file saved as UTF-8.") from error


def _text_of(line: str, where: str) -> str:
    try:
        text = json.loads(line)["text"]
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not JSON; expected an object such as {{'text': ...}} on each line.") from error
    except (KeyError, TypeError, IndexError) as error:
        raise DataError(f"{where} has no key `text`; expected an object such as {{'text': ...}}.") from error
    if not isinstance(text, str):
        raise DataError(f"{where}: `text` is of type {type(text).__name__}; expected a string.")
    return text
