"""Tokenizer files that cannot be converted, or are damaged: one sentence that names what is wrong."""

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tokenizer import NAMES, SMALL, SMALL_VOCAB, checkpoint, load, model

from ilmari.checkpoint.sentencepiece import PieceType, read_pieces
from ilmari.checkpoint.tokenizer import tokenizer_files
from ilmari.errors import ArtifactError, CheckpointError
from ilmari.model.tokenizer import Tokenizer


@pytest.mark.parametrize(
    ("trainer", "normalizer", "named"),
    [
        ({3: 1}, {}, "trainer_spec.model_type is 1"),
        ({35: 0}, {}, "byte_fallback is 0"),
        ({24: 1}, {}, "treat_whitespace_as_suffix is 1"),
        ({}, {2: b"map"}, "precompiled_charsmap is 3 bytes"),
        ({}, {3: 1}, "add_dummy_prefix is 1"),
        ({}, {4: 1}, "remove_extra_whitespaces is 1"),
        ({}, {5: 0}, "escape_whitespaces is 0"),
    ],
)
def test_settings_that_cannot_be_converted(
    tmp_path: Path, trainer: dict[int, int], normalizer: dict[int, int | bytes], named: str
) -> None:
    with pytest.raises(CheckpointError, match=re.escape(named)):
        tokenizer_files(checkpoint(tmp_path, model(SMALL, trainer, normalizer)), SMALL_VOCAB)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (model(SMALL, with_bytes=False), "<0x00> to <0xFF>"),
        (model([*SMALL, ("xx", 0.0, PieceType.UNUSED)]), "UNUSED"),
        (model([*SMALL, ("xy", 0.0, PieceType.NORMAL)]), "'xy'"),
        (model([*SMALL, ("a", 0.0, PieceType.NORMAL)]), "'a' two ids"),
        (model([*SMALL, ("", 0.0, PieceType.NORMAL)]), "not a SentencePiece model"),
        (b"version https://git-lfs.github.com/spec/v1\n", "not a SentencePiece model"),
        (b"", "model_type"),
    ],
)
def test_unusable_models(tmp_path: Path, content: bytes, named: str) -> None:
    with pytest.raises(CheckpointError, match=named):
        tokenizer_files(checkpoint(tmp_path, content), 300)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_models_are_refused_or_read(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    content = bytearray(model(SMALL))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    for _ in range(data.draw(st.integers(0, 4))):
        position = data.draw(st.integers(0, len(content)))
        content[position : position + 1] = data.draw(st.binary(max_size=3))
    path = tmp_path_factory.getbasetemp() / "damaged.model"
    path.write_bytes(content)
    with suppress(CheckpointError):
        read_pieces(path)


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("tokenizer_config.json", "{", "tokenizer_config.json is not valid JSON"),
        ("tokenizer_config.json", "[" * 100_000, "nested too deeply"),
        ("tokenizer_config.json", "[]", "holds a JSON list"),
        ("tokenizer_config.json", "\xff", "not valid JSON"),
        ("tokenizer_config.json", '{"bos_token": "<s>", "bos_token": "</s>"}', "'bos_token' occurs twice"),
        ("tokenizer_config.json", '{"model_max_length": NaN}', "NaN is not a JSON number"),
        ("tokenizer_config.json", " " * (1 << 20) + "{}", "larger than the 1,048,576 bytes"),
        ("chat_template.jinja", "x" * ((1 << 20) + 1), "larger than the 1,048,576 bytes"),
        ("tokenizer_config.json", {"eos_token": "</s>"}, "bos_token is None"),
        ("tokenizer_config.json", NAMES | {"eos_token": "<none>"}, "eos_token is '<none>'"),
        ("tokenizer_config.json", NAMES | {"add_bos_token": "yes"}, "add_bos_token is 'yes'"),
        ("tokenizer_config.json", NAMES | {"added_tokens_decoder": []}, "added_tokens_decoder is list"),
        (
            "tokenizer_config.json",
            NAMES | {"added_tokens_decoder": {"-1": {"content": "x"}}},
            "added_tokens_decoder.-1",
        ),
        ("tokenizer_config.json", NAMES | {"added_tokens_decoder": {"5": "x"}}, "added_tokens_decoder.5"),
        ("tokenizer_config.json", NAMES | {"added_tokens_decoder": {"259": {"content": "x"}}}, "renames token 259"),
        ("tokenizer_config.json", NAMES | {"added_tokens_decoder": {"266": {"content": "ab"}}}, "'ab' two ids"),
        ("tokenizer_config.json", NAMES | {"chat_template": 1}, "chat_template must be a string"),
        ("tokenizer_config.json", NAMES | {"chat_template": [{"name": "tools", "template": "x"}]}, "named default"),
        ("tokenizer_config.json", NAMES | {"chat_template": "{% if %}"}, "line 1"),
        ("chat_template.jinja", "\xff", "not UTF-8"),
        ("added_tokens.json", {"x": "y"}, "'x' is 'y'"),
        ("generation_config.json", {"eos_token_id": [2, True]}, r"generation_config.json: eos_token_id is \[2, True\]"),
        ("config.json", {"eos_token_id": -1}, "config.json: eos_token_id is -1"),
    ],
)
def test_malformed_files(tmp_path: Path, name: str, content: Any, named: str) -> None:
    folder = checkpoint(tmp_path, model(SMALL))
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / name).write_text(text, encoding="latin-1")
    with pytest.raises(CheckpointError, match=named):
        tokenizer_files(folder, SMALL_VOCAB)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json is missing"):
        tokenizer_files(tmp_path, SMALL_VOCAB)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(NAMES))
    with pytest.raises(CheckpointError, match=r"neither tokenizer\.model nor tokenizer\.json"):
        tokenizer_files(tmp_path, SMALL_VOCAB)


def test_tokenizer_of_another_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"token id {SMALL_VOCAB - 1}.*ends at {SMALL_VOCAB - 2}"):
        tokenizer_files(checkpoint(tmp_path, model(SMALL)), SMALL_VOCAB - 1)


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("tokenizer.json", None, r"tokenizer\.json cannot be read"),
        ("tokenizer_config.json", None, r"tokenizer_config\.json cannot be read"),
        ("tokenizer.json", b"{}", r"tokenizer\.json is damaged"),
        ("tokenizer_config.json", b"{", "JSON"),
        ("tokenizer_config.json", b"{}", "byte_encoding: Field required"),
        ("tokenizer_config.json", (b'"bos_token_id": 1', b'"bos_token_id": 999'), "names token 999"),
        ("tokenizer_config.json", (b'"bos_token_id": 1', b'"bos_token_id": "1"'), "bos_token_id: Input should be"),
        ("tokenizer_config.json", (b'"bos_token_id": 1', b'"bos_token_id": 1, "more": 1'), "more: Unexpected"),
    ],
)
def test_damaged_artifacts(tmp_path: Path, name: str, content: Any, named: str) -> None:
    load(checkpoint(tmp_path, model(SMALL)), SMALL_VOCAB)
    path = tmp_path / "artifact" / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes().replace(*content) if isinstance(content, tuple) else content)
    with pytest.raises(ArtifactError, match=named):
        Tokenizer.load(tmp_path / "artifact")


@pytest.mark.parametrize("name", ["tokenizer.model", "tokenizer.json"])
def test_huge_tokenizers_are_not_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(NAMES))
    with (tmp_path / name).open("wb") as file:
        file.truncate((64 << 20) + 1)
    with pytest.raises(CheckpointError, match=rf"{name} is larger than the 67,108,864 bytes"):
        tokenizer_files(tmp_path, SMALL_VOCAB)
