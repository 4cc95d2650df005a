"""A Hugging Face folder's tokenizer, turned into the files of an artifact."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import tokenizers
from jinja2.exceptions import SecurityError

from ilmari.checkpoint.folder import parse_object, read_bounded, read_object
from ilmari.checkpoint.sentencepiece import Piece, PieceType, read_pieces, tokenizers_definition
from ilmari.errors import ArtifactError, CheckpointError, RequestError
from ilmari.model.chat import CHAT_TEMPLATE_FILE, ChatTemplate
from ilmari.model.tokenizer import BYTE_LEVEL, TOKENIZER_CONFIG_FILE, TOKENIZER_FILE, TokenizerConfig

SENTENCEPIECE_FILE = "tokenizer.model"
END_OF_TURN = ("<|im_end|>", "<eoa>")
_MAX_TOKENIZER_BYTES = 64 << 20
_MAX_CONFIG_BYTES = 1 << 20
_ID_KEY = re.compile("[0-9]{1,9}")

_ByteEncoding = Literal["byte_fallback", "byte_level"]


@dataclass(frozen=True)
class _Definition:
    """A `tokenizer.json`, and what the rest of the conversion needs to know of it.

    `prefix` is what the tokenizer itself puts before every text; None if only the Hugging Face class would know.
    """

    content: bytes
    byte_encoding: _ByteEncoding
    ids: dict[str, int]
    special_ids: set[int]
    prefix: list[int] | None


@dataclass(frozen=True)
class _Added:
    """A token that the folder adds to the vocabulary, or renames in it."""

    text: str
    special: bool


def tokenizer_files(folder: Path, vocab_size: int) -> dict[str, bytes]:
    """The files of an artifact's `tokenizer/` folder, by name; the same input gives the same bytes.

    `folder` is a Hugging Face checkpoint and `vocab_size` the number of rows of its embedding. `tokenizer.model` is
    preferred to `tokenizer.json`, because the latter need not encode as SentencePiece does. Stop tokens are the end of
    text, what `config.json` and `generation_config.json` call `eos_token_id`, and the end of a chat turn.

    Raises:
        CheckpointError: a file is absent or malformed, or its ids do not fit in the vocabulary.
    """
    settings_path = folder / TOKENIZER_CONFIG_FILE
    settings = read_object(settings_path, _MAX_CONFIG_BYTES)
    added = _added_tokens(folder, settings, vocab_size)
    if (folder / SENTENCEPIECE_FILE).is_file():
        definition = _from_sentencepiece(folder / SENTENCEPIECE_FILE, added, vocab_size)
    elif (folder / TOKENIZER_FILE).is_file():
        definition = _from_tokenizers(folder / TOKENIZER_FILE, vocab_size)
    else:
        raise CheckpointError(f"{folder} has no tokenizer: neither {SENTENCEPIECE_FILE} nor {TOKENIZER_FILE} is there.")

    bos, eos = (_named_id(settings_path, settings, name, definition) for name in ("bos_token", "eos_token"))
    specials = definition.special_ids | {i for i, token in added.items() if token.special} | {bos, eos}
    turn_ends = {definition.ids[text] for text in END_OF_TURN if text in definition.ids}
    stops = {eos, *_eos_ids(folder / "config.json"), *_eos_ids(folder / "generation_config.json"), *turn_ends}
    known = set(definition.ids.values())
    config = TokenizerConfig(
        byte_encoding=definition.byte_encoding,
        vocab_size=vocab_size,
        add_bos_token=_add_bos(settings_path, settings, definition.prefix in (None, [bos])),
        bos_token_id=bos,
        eos_token_id=eos,
        special_token_ids=tuple(sorted(specials & known)),
        stop_token_ids=tuple(sorted(stops & known)),
    )
    files = {TOKENIZER_FILE: definition.content, TOKENIZER_CONFIG_FILE: config.to_json()}
    if (template := _chat_template(folder, settings)) is not None:
        files[CHAT_TEMPLATE_FILE] = template.encode()
    return files


def _from_sentencepiece(path: Path, added: dict[int, _Added], vocab_size: int) -> _Definition:
    pieces = dict(enumerate(read_pieces(path)))
    for i, token in added.items():
        piece = pieces.get(i, Piece(token.text, 0.0, PieceType.USER_DEFINED))
        if piece.text != token.text and piece.type is not PieceType.USER_DEFINED:
            raise CheckpointError(
                f"{path.with_name(TOKENIZER_CONFIG_FILE)} renames token {i} to {token.text!r}, but {path.name} has "
                f"{piece.text!r} of type {piece.type.name} there; only user-defined pieces may change."
            )
        pieces[i] = replace(piece, text=token.text)
    _check_ids(path, pieces, vocab_size)
    ids = {piece.text: i for i, piece in pieces.items()}
    if clash := next((i for i, piece in pieces.items() if ids[piece.text] != i), None):
        text = pieces[clash].text
        raise CheckpointError(f"{path} and its added tokens give {text!r} two ids, {clash} and {ids[text]}.")
    content = json.dumps(tokenizers_definition(pieces), ensure_ascii=False, separators=(",", ":")).encode()
    special_ids = {i for i, piece in pieces.items() if piece.type in (PieceType.CONTROL, PieceType.UNKNOWN)}
    return _Definition(content, "byte_fallback", ids, special_ids, prefix=None)


def _from_tokenizers(path: Path, vocab_size: int) -> _Definition:
    content = read_bounded(path, _MAX_TOKENIZER_BYTES)
    decoder = parse_object(content, str(path)).get("decoder")
    try:
        tokenizer = tokenizers.Tokenizer.from_buffer(content)
        prefix = tokenizer.encode("").ids
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the library raises plain Exception, and its panics are not even that
        raise CheckpointError(f"{path} is not a tokenizer ({error}); download it again.") from error
    ids = tokenizer.get_vocab(with_added_tokens=True)
    _check_ids(path, ids.values(), vocab_size)
    added = tokenizer.get_added_tokens_decoder()
    encoding = _byte_encoding(path, decoder)
    if encoding == "byte_level":
        _check_spelling(path, (piece for piece, i in ids.items() if i not in added))
    return _Definition(content, encoding, ids, {i for i, token in added.items() if token.special}, prefix)


def _byte_encoding(path: Path, decoder: Any) -> _ByteEncoding:
    """How the vocabulary spells bytes, told from the decoder of a `tokenizer.json`."""
    steps = decoder.get("decoders", [decoder]) if isinstance(decoder, dict) else []
    types = {step.get("type") for step in steps if isinstance(step, dict)}
    if types == {"ByteLevel"}:
        return "byte_level"
    if "ByteFallback" in types and types <= {"Replace", "ByteFallback", "Fuse"}:
        return "byte_fallback"
    raise CheckpointError(
        f"{path}: decoder has steps {sorted(map(str, types))}; expected ByteLevel, or Replace, ByteFallback and Fuse."
    )


def _check_spelling(path: Path, pieces: Iterable[str]) -> None:
    """Each piece must be bytes in GPT-2's spelling, or else it has no bytes."""
    if wrong := min((piece for piece in pieces if not BYTE_LEVEL.keys() >= set(piece)), default=None):
        raise CheckpointError(
            f"{path}: the piece {wrong!r} is not spelt in the byte-level alphabet; expected one of its 256 characters "
            "for each byte, or an added token."
        )


def _added_tokens(folder: Path, settings: dict[str, Any], vocab_size: int) -> dict[int, _Added]:
    """Tokens by id. `added_tokens_decoder` has the last word; ids beyond the embedding can never occur."""
    old_path, path = folder / "added_tokens.json", folder / TOKENIZER_CONFIG_FILE
    added = {}
    for text, i in (read_object(old_path, _MAX_CONFIG_BYTES) if old_path.is_file() else {}).items():
        if not _is_id(i):
            raise CheckpointError(f"{old_path}: {text!r} is {i!r}; expected a token id.")
        added[i] = _Added(text, special=True)
    decoder = settings.get("added_tokens_decoder", {})
    if not isinstance(decoder, dict):
        raise CheckpointError(f"{path}: added_tokens_decoder is {type(decoder).__name__}; expected an object.")
    for key, token in decoder.items():
        content = token.get("content") if isinstance(token, dict) else None
        if not (_ID_KEY.fullmatch(key) and isinstance(content, str) and content):
            raise CheckpointError(f"{path}: added_tokens_decoder.{key} must be a token id with an object with content.")
        added[int(key)] = _Added(content, special=token.get("special") is True)
    return {i: token for i, token in sorted(added.items()) if i < vocab_size}


def _named_id(path: Path, settings: dict[str, Any], name: str, definition: _Definition) -> int:
    """The id of `bos_token` or `eos_token`, given as a string or as an object with content."""
    token = settings.get(name)
    text = token.get("content") if isinstance(token, dict) else token
    if not isinstance(text, str) or text not in definition.ids:
        raise CheckpointError(f"{path}: {name} is {text!r}; expected the text of a token of the vocabulary.")
    return definition.ids[text]


def _add_bos(path: Path, settings: dict[str, Any], default: bool) -> bool:
    """`add_bos_token`; `default` is what Hugging Face's class does where the key is absent."""
    value = settings.get("add_bos_token")
    if value is not None and not isinstance(value, bool):
        raise CheckpointError(f"{path}: add_bos_token is {value!r}; expected true or false.")
    return default if value is None else value


def _eos_ids(path: Path) -> set[int]:
    """`eos_token_id` of a JSON file: a number, a list of them, or nothing."""
    value = read_object(path, _MAX_CONFIG_BYTES).get("eos_token_id") if path.is_file() else None
    ids = [] if value is None else value if isinstance(value, list) else [value]
    if not all(map(_is_id, ids)):
        raise CheckpointError(f"{path}: eos_token_id is {value!r}; expected a token id or a list of them.")
    return set(ids)


def _chat_template(folder: Path, settings: dict[str, Any]) -> str | None:
    """The template's source, checked; as in transformers, a file of its own goes before the settings."""
    path = folder / CHAT_TEMPLATE_FILE
    if path.is_file():
        try:
            source: Any = read_bounded(path, _MAX_CONFIG_BYTES).decode()
        except UnicodeDecodeError as error:
            raise CheckpointError(f"{path} is not UTF-8 text ({error}); download it again.") from error
    else:
        path = folder / TOKENIZER_CONFIG_FILE
        source = settings.get("chat_template")
        if isinstance(source, list):
            named = {entry.get("name"): entry.get("template") for entry in source if isinstance(entry, dict)}
            source = named.get("default", source)
    if source is None:
        return None
    if not isinstance(source, str):
        raise CheckpointError(f"{path}: chat_template must be a string, or a list with a string named default.")
    try:
        ChatTemplate(source, "", "").render([{"role": "user", "content": ""}])
    except ArtifactError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except RequestError as error:
        # A template may refuse this conversation; what it may not do is reach beyond it.
        if isinstance(error.__cause__, SecurityError):
            raise CheckpointError(f"{path}: {error}") from error
    return source


def _check_ids(path: Path, ids: Iterable[int], vocab_size: int) -> None:
    if (highest := max(ids, default=-1)) >= vocab_size:
        raise CheckpointError(
            f"{path} has token id {highest}, but the model's vocabulary ends at {vocab_size - 1}; "
            "the tokenizer belongs to another model."
        )


def _is_id(value: Any) -> bool:
    return type(value) is int and value >= 0
