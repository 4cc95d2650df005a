"""Text to token ids and back, the same way for every checkpoint."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import tokenizers
from pydantic import ConfigDict, NonNegativeInt, TypeAdapter, ValidationError

from ilmari.errors import ArtifactError, RequestError
from ilmari.model.stream_decoder import StreamDecoder

TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"

SPACE_MARK = "\u2581"
_BYTE_PIECE = re.compile("<0x([0-9A-F]{2})>")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_CUT = "\udfff"  # no text that can be encoded has a lone surrogate, so this one is free to mark where text is cut


@dataclass(frozen=True)
class TokenizerConfig:
    """What `tokenizer.json` does not say; the artifact's `tokenizer/tokenizer_config.json`.

    `byte_encoding` is how the vocabulary spells bytes: "byte_fallback" is SentencePiece's (U+2581 for a space, `<0xE4>`
    for a byte), "byte_level" is GPT-2's (one printable character for each byte). `vocab_size` counts the rows of the
    embedding, of which the last may have no text. `special_token_ids` are the tokens that carry no text of the answer.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    byte_encoding: Literal["byte_fallback", "byte_level"]
    vocab_size: NonNegativeInt
    add_bos_token: bool
    bos_token_id: NonNegativeInt
    eos_token_id: NonNegativeInt
    special_token_ids: tuple[NonNegativeInt, ...]
    stop_token_ids: tuple[NonNegativeInt, ...]

    def to_json(self) -> bytes:
        """The file's content; equal configs give equal bytes."""
        return _CONFIG.dump_json(self, indent=2) + b"\n"


_CONFIG = TypeAdapter(TokenizerConfig)


class Tokenizer:
    """The tokenizer of one artifact. Its methods may be called from several threads."""

    def __init__(self, config: TokenizerConfig, backend: tokenizers.Tokenizer) -> None:
        backend.encode_special_tokens = True  # text never becomes a special token unless `parse_special` asks for it
        backend.no_truncation()
        backend.no_padding()
        self._config = config
        self._backend = backend
        self._added_text = {i: token.content for i, token in backend.get_added_tokens_decoder().items()}
        special_ids = {config.bos_token_id, config.eos_token_id, *config.special_token_ids}
        texts = {i: text for i in special_ids if (text := backend.id_to_token(i)) is not None}
        self.special_by_text: dict[str, int] = {text: i for i, text in texts.items()}
        longest_first = "|".join(map(re.escape, sorted(self.special_by_text, key=len, reverse=True)))
        self._special_pattern = re.compile(f"({longest_first})")
        self._special_start = re.compile(f"(?=(?:{longest_first}))(.)", re.DOTALL)

        self.vocab_size: int = config.vocab_size
        self.bos_token_id: int = config.bos_token_id
        self.eos_token_id: int = config.eos_token_id
        self.bos_token: str = texts[config.bos_token_id]
        self.eos_token: str = texts[config.eos_token_id]
        self.special_ids: frozenset[int] = frozenset(special_ids)
        self.stop_token_ids: frozenset[int] = frozenset(config.stop_token_ids)

    @classmethod
    def load(cls, folder: Path) -> "Tokenizer":
        """Read the artifact's `tokenizer/` folder.

        Raises:
            ArtifactError: a file is absent or damaged, or names an id that the vocabulary lacks.
        """
        config_path, backend_path = folder / TOKENIZER_CONFIG_FILE, folder / TOKENIZER_FILE
        try:
            config = _CONFIG.validate_json(config_path.read_bytes())
            definition = backend_path.read_bytes()
        except OSError as error:
            raise ArtifactError(
                f"{error.filename} cannot be read: {error.strerror}; compile the model again."
            ) from error
        except ValidationError as error:
            found = error.errors()[0]
            field = ".".join(map(str, found["loc"])) or "the document"
            raise ArtifactError(f"{config_path}: {field}: {found['msg']}; compile the model again.") from error
        try:
            backend = tokenizers.Tokenizer.from_buffer(definition)
        except Exception as error:  # the library raises plain Exception
            raise ArtifactError(f"{backend_path} is damaged ({error}); compile the model again.") from error
        named_ids = {config.bos_token_id, config.eos_token_id, *config.special_token_ids, *config.stop_token_ids}
        if missing := sorted(i for i in named_ids if i >= config.vocab_size or backend.id_to_token(i) is None):
            raise ArtifactError(f"{config_path} names token {missing[0]}, which {backend_path} lacks; compile again.")
        return cls(config, backend)

    def encode(self, text: str, *, add_bos: bool = True, parse_special: bool = False) -> list[int]:
        """Token ids of `text`.

        `add_bos` puts the bos token first if the checkpoint asks for one and it is not there yet. `parse_special` is
        for rendered chat templates: the text of a special token (`<s>`) becomes that token instead of ordinary text,
        except where `escape_special` has been at it. Symbols that SentencePiece itself finds in text (InternLM2's chat
        markers) are found without `parse_special` too.

        Raises:
            RequestError: `text` has half of a surrogate pair, which no encoding can represent.
        """
        if parse_special:
            ids = []
            for part in self._special_pattern.split(text):
                special = self.special_by_text.get(part)
                ids += self._encode_escaped(part) if special is None else [special]
        else:
            _check_unicode(text)
            ids = self._encode_ordinary(text)
        if add_bos and self._config.add_bos_token and ids[:1] != [self.bos_token_id]:
            return [self.bos_token_id, *ids]
        return ids

    def escape_special(self, text: str) -> str:
        """`text` for a place in a rendered chat template where it must not become a special token.

        `encode` with `parse_special` cuts the text of a special token found here after its first character, so that the
        model reads the characters and not the token. Other texts stay as they are, and so do their ids.

        Raises:
            RequestError: as `encode`.
        """
        _check_unicode(text)
        return self._special_start.sub(rf"\1{_CUT}", text)

    def decode(self, ids: Iterable[int], *, skip_special_tokens: bool = True) -> str:
        """Text of `ids`: their bytes read as UTF-8, U+FFFD for each invalid byte, spaces kept.

        Equal to SentencePiece's text, but for the special tokens: skipped or spelt out, and `<unk>` is one of them.

        Raises:
            RequestError: an id lies outside the vocabulary.
        """
        decoder = StreamDecoder(self, skip_special_tokens=skip_special_tokens)
        return "".join([*map(decoder.push, ids), decoder.flush()])

    def id_to_bytes(self, token_id: int) -> bytes:
        """UTF-8 bytes that one token contributes to the text; a character may be spread over several tokens.

        Embedding rows without a piece give b"".

        Raises:
            RequestError: `token_id` lies outside the vocabulary.
        """
        if not 0 <= token_id < self.vocab_size:
            raise RequestError(f"token id {token_id} lies outside the vocabulary; ids are 0 to {self.vocab_size - 1}.")
        piece: str | None = self._backend.id_to_token(token_id)
        if piece is None:
            return b""
        if self._config.byte_encoding == "byte_fallback":
            byte = _BYTE_PIECE.fullmatch(piece)
            return bytes.fromhex(byte[1]) if byte else piece.replace(SPACE_MARK, " ").encode()
        if token_id in self._added_text:  # added tokens are spelt plainly in a byte-level vocabulary
            return piece.encode()
        return bytes(map(BYTE_LEVEL.__getitem__, piece))

    def _encode_escaped(self, text: str) -> list[int]:
        parts = text.split(_CUT)
        for part in parts:
            _check_unicode(part)
        return [token_id for part in parts for token_id in self._encode_ordinary(part)]

    def _encode_ordinary(self, text: str) -> list[int]:
        ids: list[int] = self._backend.encode(text, add_special_tokens=False).ids
        return ids


def _check_unicode(text: str) -> None:
    if lone := _LONE_SURROGATE.search(text):
        raise RequestError(
            f"the text has a lone surrogate U+{ord(lone[0]):04X} at character {lone.start()}; send valid Unicode."
        )


def _byte_level_alphabet() -> dict[str, int]:
    """GPT-2's spelling of bytes: printable Latin-1 characters stand for themselves, the others take U+0100 onwards."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = sorted(set(range(0x100)) - set(printable))
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


BYTE_LEVEL = _byte_level_alphabet()
"""The byte that each character of a byte-level piece stands for."""
