"""A byte-level `tokenizer.json` is used so that the `tokenizers` library would give the same ids."""

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from small_tokenizer import SMALL, SMALL_VOCAB, checkpoint, load, model

from ilmari.checkpoint.tokenizer import tokenizer_files
from ilmari.errors import CheckpointError

BYTE_LEVEL_TEXTS = ["Hello  world\n", "naïve 你好 😀😀", "def f(x):\n\treturn x", "a<|im_end|>b", "\0\x7f\xad\u0100"]


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tokenizers.Tokenizer]:
    """A checkpoint with a GPT-2 style `tokenizer.json`, and that tokenizer."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|im_start|>", "<|im_end|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(BYTE_LEVEL_TEXTS * 3, trainer)
    tokenizer.add_tokens(["<tool é>"])
    folder = tmp_path_factory.mktemp("byte_level")
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"bos_token": {"content": "<|im_start|>"}, "eos_token": "<|im_end|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    return folder, tokenizer


def test_byte_level(byte_level: tuple[Path, tokenizers.Tokenizer]) -> None:
    folder, reference = byte_level
    vocab_size = reference.get_vocab_size() + 7
    assert tokenizer_files(folder, vocab_size)["tokenizer.json"] == (folder / "tokenizer.json").read_bytes()
    tokenizer = load(folder, vocab_size)
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    assert tokenizer.special_ids == {start, end}
    assert tokenizer.stop_token_ids == {end}
    for text in [*BYTE_LEVEL_TEXTS, "x<tool é>y", "".join(map(chr, range(0x250)))]:
        expected = reference.encode(text).ids
        assert tokenizer.encode(text, parse_special=True) == expected
        assert tokenizer.decode(expected, skip_special_tokens=False) == text
        assert b"".join(map(tokenizer.id_to_bytes, expected)) == text.encode()
        plain = tokenizer.encode(text)
        assert not {start, end} & set(plain)
        assert tokenizer.decode(plain) == text


def test_byte_level_bos_as_its_post_processor_does(
    byte_level: tuple[Path, tokenizers.Tokenizer], tmp_path: Path
) -> None:
    folder, _ = byte_level
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    start = tokenizer.token_to_id("<|im_start|>")
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", start)]
    )
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_bytes((folder / "tokenizer_config.json").read_bytes())
    assert load(tmp_path, tokenizer.get_vocab_size()).encode("Hello") == tokenizer.encode("Hello").ids


def test_sentencepiece_is_preferred(byte_level: tuple[Path, tokenizers.Tokenizer], tmp_path: Path) -> None:
    folder, _ = byte_level
    checkpoint(tmp_path, model(SMALL))
    (tmp_path / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    assert b"byte_fallback" in tokenizer_files(tmp_path, SMALL_VOCAB)["tokenizer_config.json"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model": {"type": "None"}}, "is not a tokenizer"),
        ({"decoder": None}, "decoder has steps"),
        (
            {"decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}},
            "Metaspace",
        ),
    ],
)
def test_unusable_tokenizer_json(
    byte_level: tuple[Path, tokenizers.Tokenizer], tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    folder, reference = byte_level
    definition = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    (tmp_path / "tokenizer.json").write_text(json.dumps(definition | change))
    (tmp_path / "tokenizer_config.json").write_bytes((folder / "tokenizer_config.json").read_bytes())
    with pytest.raises(CheckpointError, match=named):
        tokenizer_files(tmp_path, reference.get_vocab_size())


@pytest.mark.parametrize("piece", ["你", "a b"])
def test_piece_outside_the_alphabet(byte_level: tuple[Path, tokenizers.Tokenizer], tmp_path: Path, piece: str) -> None:
    """It would have no bytes to decode to; an added token may be spelt so."""
    folder, reference = byte_level
    last = reference.get_vocab_size() - 1
    definition = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    tool = definition["added_tokens"].pop()
    definition["model"]["vocab"][piece] = last
    (tmp_path / "tokenizer.json").write_text(json.dumps(definition))
    (tmp_path / "tokenizer_config.json").write_bytes((folder / "tokenizer_config.json").read_bytes())
    with pytest.raises(CheckpointError, match=rf"tokenizer\.json: the piece '{piece}' is not spelt"):
        tokenizer_files(tmp_path, last + 1)
    definition["added_tokens"].append(tool | {"id": last, "content": piece})
    (tmp_path / "tokenizer.json").write_text(json.dumps(definition))
    assert load(tmp_path, last + 1).decode([last]) == piece
