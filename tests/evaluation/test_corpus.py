"""Texts on disk as tokens in windows, and a sentence for every file that is none."""

import json
from pathlib import Path

import bytes_tokenizer
import pytest
from checkpoints import CompileTiny, assert_one_sentence

from ilmari.artifact.manifest import Manifest, read_manifest
from ilmari.errors import DataError, RequestError
from ilmari.evaluation.corpus import Corpus, window_length
from ilmari.model.tokenizer import Tokenizer

TEXT = "Räkä\r\n on  <s> 好.\n"
READ = TEXT.replace("\r\n", "\n")


@pytest.fixture
def artifact(compile_tiny: CompileTiny) -> Path:
    return compile_tiny("fp16")


@pytest.fixture
def tokenizer(artifact: Path) -> Tokenizer:
    return Tokenizer.load(artifact / "tokenizer")


@pytest.fixture
def manifest(artifact: Path) -> Manifest:
    return read_manifest(artifact)


@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_text(tmp_path: Path, tokenizer: Tokenizer, bom: str) -> None:
    """Every byte is a token, and none of the text becomes a special one; there is no bos."""
    path = tmp_path / "text.txt"
    path.write_bytes(f"{bom}{TEXT}".encode())
    want = bytes_tokenizer.encode(READ)
    assert list(Corpus.read(path, tokenizer, 5).ids) == want
    assert list(Corpus.read(path, tokenizer, 5, tokens=7).ids) == want[:7]
    assert list(Corpus.read(path, tokenizer, 5, tokens=len(want)).ids) == want


def test_json_lines(tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text('{"text": "a\\u00e4", "url": 1}\n\n{"text": ""}\n{"text": "b"}\n{not reached', encoding="utf-8")
    want = bytes_tokenizer.encode("aä\n\n\n\nb\n\n")
    assert list(Corpus.read(path, tokenizer, 5, tokens=8).ids) == want[:8]


@pytest.mark.parametrize(
    ("length", "window", "lengths"),
    [(10, 4, [4, 4, 2]), (9, 4, [4, 4]), (8, 4, [4, 4]), (3, 4, [3]), (2, 2, [2]), (5, 2, [2, 2])],
)
def test_windows(length: int, window: int, lengths: list[int]) -> None:
    """In order, nothing twice; only a single token at the end, which predicts nothing, is left out."""
    windows = Corpus(range(length), window).windows
    assert [len(each) for each in windows] == lengths
    assert [token for each in windows for token in each] == list(range(sum(lengths)))


def test_digest_is_of_the_tokens() -> None:
    assert Corpus([1, 2, 300], 4).sha256 == Corpus((1, 2, 300), 2).sha256 != Corpus([1, 2, 301], 4).sha256


BAD = {
    "empty": ("text.txt", b"", "has 0 tokens, and 2 are needed"),
    "one token": ("text.txt", b"a", "has 1 tokens, and 2 are needed"),
    "Latin-1": ("text.txt", "sää".encode("latin-1"), "is not UTF-8 text"),
    "packed": ("text.txt", b"\x1f\x8b\x08\x00", "is not UTF-8 text"),
    "no lines of JSON": ("texts.jsonl", b"hello\n", "line 1 is not JSON"),
    "deep JSON": ("texts.jsonl", b"[" * 100_000, "line 1 is not JSON"),
    "no text": ("texts.jsonl", b'{"text": "a"}\n{"content": "b"}\n', "line 2 has no key `text`"),
    "list": ("texts.jsonl", b"[1]\n", "line 1 has no key `text`"),
    "number": ("texts.jsonl", b"7\n", "line 1 has no key `text`"),
    "text that is none": ("texts.jsonl", json.dumps({"text": [1]}).encode(), "`text` is of type list"),
    "empty lines": ("texts.jsonl", b"\n\n", "has 0 tokens"),
}


@pytest.mark.parametrize(("name", "content", "words"), BAD.values(), ids=BAD)
def test_bad_file(tmp_path: Path, tokenizer: Tokenizer, name: str, content: bytes, words: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        Corpus.read(path, tokenizer, 4)
    assert_one_sentence(caught.value)
    assert str(path) in str(caught.value)
    assert words in str(caught.value)


def test_absent_file_and_folder(tmp_path: Path, tokenizer: Tokenizer) -> None:
    for path, words in ((tmp_path / "absent.txt", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(DataError, match=words) as caught:
            Corpus.read(path, tokenizer, 4)
        assert_one_sentence(caught.value)


def test_fewer_tokens_than_asked_for(tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = tmp_path / "text.txt"
    path.write_text("four", encoding="utf-8")
    with pytest.raises(DataError, match="has 4 tokens, and 20,000 are needed; give a longer text"):
        Corpus.read(path, tokenizer, 4, tokens=20_000)


def test_window_length(manifest: Manifest, compile_tiny: CompileTiny) -> None:
    """By default 1,024, or what the tightest artifact takes; more than that cannot be asked for."""
    longer = read_manifest(compile_tiny("fp16", lengths=(1500, 2000), layers=1, max_position=2048))
    assert [window_length(None, each) for each in ([longer], [manifest], [longer, manifest])] == [1024, 256, 256]
    assert [window_length(each, [longer]) for each in (2, 2000)] == [2, 2000]
    with pytest.raises(RequestError, match=f"--window is 257 and {manifest.name} takes 256 tokens") as caught:
        window_length(257, [longer, manifest])
    assert_one_sentence(caught.value)
