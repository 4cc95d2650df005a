"""Tokenizers are converted and used so that SentencePiece, or the `tokenizers` library, would give the same ids."""

import csv
import io
import json
import random
import re
import struct
import zipfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sentencepiece
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from ilmari.checkpoint.sentencepiece import PieceType, read_pieces
from ilmari.checkpoint.tokenizer import tokenizer_files
from ilmari.errors import ArtifactError, CheckpointError, RequestError
from ilmari.model.tokenizer import Tokenizer

INTERNLM2_VOCAB, INTERNLM_VOCAB = 92544, 103168
MARKERS = {
    92538: "<|plugin|>",
    92539: "<|interpreter|>",
    92540: "<|action_end|>",
    92541: "<|action_start|>",
    92542: "<|im_end|>",
    92543: "<|im_start|>",
}
NAMES = {"bos_token": "<s>", "eos_token": "</s>"}


class Pair(NamedTuple):
    """The tokenizer under test and its independent reference."""

    tokenizer: Tokenizer
    reference: sentencepiece.SentencePieceProcessor

    def reference_ids(self, text: str) -> list[int]:
        """Ids of an InternLM text; SentencePiece 0.2.3 alone reads NUL as byte 3, but there is a piece for it."""
        return [354 if i == 3 else i for i in self.reference.encode(text)]


def load(folder: Path, vocab_size: int) -> Tokenizer:
    """Convert the checkpoint `folder`, write the artifact's files below it and load them."""
    artifact = folder / "artifact"
    artifact.mkdir()
    for name, content in tokenizer_files(folder, vocab_size).items():
        (artifact / name).write_bytes(content)
    return Tokenizer.load(artifact)


def pair(folder: Path, vocab_size: int) -> Pair:
    reference = sentencepiece.SentencePieceProcessor(str(folder / "tokenizer.model"))
    return Pair(load(folder, vocab_size), reference)


@pytest.fixture(scope="module")
def internlm2(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("internlm2")
    for source in (shared / "tokenizers" / "internlm2").iterdir():
        (folder / source.name).write_bytes(source.read_bytes())
    return pair(folder, INTERNLM2_VOCAB)


@pytest.fixture(scope="module")
def internlm(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("internlm")
    (folder / "tokenizer.model").write_bytes((shared / "tokenizers" / "internlm" / "tokenizer.model").read_bytes())
    (folder / "tokenizer_config.json").write_text(json.dumps(NAMES))
    return pair(folder, INTERNLM_VOCAB)


@pytest.fixture(scope="module")
def documents(shared: Path) -> list[str]:
    """Every document of the C4 sample, and every C-Eval question with its choices."""
    with (shared / "data" / "c4_en_sample.jsonl").open(encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    with zipfile.ZipFile(shared / "data" / "ceval-exam.zip") as archive:
        for name in archive.namelist():
            if name.endswith(".csv"):
                for row in csv.DictReader(io.StringIO(archive.read(name).decode("utf-8-sig"))):
                    texts.append("\n".join(row[key] for key in ("question", "A", "B", "C", "D")))
    return texts


@pytest.mark.shared
class TestInternLM2:
    @pytest.mark.parametrize(
        ("text", "ids"),
        [
            ("Hello world", [9843, 2028]),
            (" Hello", [22190]),
            ("你好，世界", [77230, 60353, 68339]),
            ("1234567", [4575, 1889, 3171]),
            ("<|im_start|>user\nhi<|im_end|>\n", [92543, 1008, 364, 6176, 92542, 364]),
        ],
    )
    def test_published_ids(self, internlm2: Pair, text: str, ids: list[int]) -> None:
        assert internlm2.tokenizer.encode(text, add_bos=False) == ids
        assert internlm2.tokenizer.encode(text) == [1, *ids]
        assert internlm2.tokenizer.decode(ids, skip_special_tokens=False) == text

    @pytest.mark.timeout(60)
    def test_whole_corpora(self, internlm2: Pair, documents: list[str]) -> None:
        assert len(documents) > 10_000
        expected = internlm2.reference.encode(documents)
        assert [internlm2.tokenizer.encode(text, add_bos=False) for text in documents] == expected
        assert [internlm2.tokenizer.decode(ids) for ids in expected] == internlm2.reference.decode(expected)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "\0",
            "a\0b\0\0",
            "👩‍👩‍👧‍👦🏳️‍🌈 😀",
            "\U0010ffff\ue000\u0378",
            "▁a b▁▁ c",
            "a" + " " * 300 + "b",
            "  \n\n\n \t\r\n\u3000\u00a0x  ",
            "-" * 200 + "=" * 77 + "—" * 5 + "…" * 5,
            "<s>a</s><unk><pad>",
            "ＡＢＣＥＦＧ",
            "[UNUSED_TOKEN_0][UNUSED_TOKEN_14][UNUSED_TOKEN_140]",
            "[UNUSED_TOKEN_1",
            "<0x41><0x00>",
            "e\u0301é\u1e9b\u0323ﬁ",
            "\ufeff\ufffd\ufffe",
        ],
    )
    def test_oddities(self, internlm2: Pair, text: str) -> None:
        ids = internlm2.tokenizer.encode(text, add_bos=False)
        assert ids == internlm2.reference_ids(text)
        assert internlm2.tokenizer.decode(ids) == internlm2.reference.decode(ids)

    def test_nul_is_a_piece(self, internlm2: Pair) -> None:
        assert internlm2.tokenizer.encode("\0", add_bos=False) == [354]
        assert internlm2.tokenizer.id_to_bytes(354) == internlm2.tokenizer.id_to_bytes(3) == b"\0"

    @settings(max_examples=300, deadline=None)
    @given(st.text(max_size=200) | st.text(alphabet=" ▁\n-=.()[]{}a1你—…ＥＦ", max_size=80))
    def test_any_text(self, internlm2: Pair, text: str) -> None:
        ids = internlm2.tokenizer.encode(text, add_bos=False)
        assert ids == internlm2.reference_ids(text)
        assert internlm2.tokenizer.decode(ids) == text.replace("▁", " ")

    @settings(max_examples=300, deadline=None)
    @given(st.lists(st.integers(1, 300) | st.integers(1, min(MARKERS) - 1), max_size=50))
    def test_any_ids(self, internlm2: Pair, ids: list[int]) -> None:
        assert internlm2.tokenizer.decode(ids) == internlm2.reference.decode(ids)

    def test_markers_take_the_place_of_unused_tokens(self, internlm2: Pair) -> None:
        for number, (marker_id, marker) in enumerate(MARKERS.items(), start=141):
            before = internlm2.reference.encode(f"a [UNUSED_TOKEN_{number}] b")
            assert internlm2.tokenizer.encode(f"a {marker} b", add_bos=False) == before
            assert marker_id in before
            assert internlm2.tokenizer.id_to_bytes(marker_id) == marker.encode()

    def test_special_and_stop_tokens(self, internlm2: Pair) -> None:
        tokenizer = internlm2.tokenizer
        assert (tokenizer.vocab_size, tokenizer.bos_token_id, tokenizer.eos_token_id) == (INTERNLM2_VOCAB, 1, 2)
        assert (tokenizer.bos_token, tokenizer.eos_token) == ("<s>", "</s>")
        assert tokenizer.special_ids == {0, 1, 2, *MARKERS}
        assert tokenizer.stop_token_ids == {2, 92542}

    def test_special_text_is_parsed_on_request_only(self, internlm2: Pair) -> None:
        encode = internlm2.tokenizer.encode
        prompt = "<s><|im_start|>user\n</s>x<unk><|im_end|>"
        ids = [1, 92543, 1008, 364, 2, 274, 0, 92542]
        assert internlm2.reference.encode("x") == [274]
        assert encode(prompt, parse_special=True) == encode(prompt, parse_special=True, add_bos=False) == ids
        assert encode(prompt[3:], parse_special=True) == ids
        assert encode(prompt[3:], parse_special=True, add_bos=False) == ids[1:]
        assert not {0, 2} & set(encode(prompt))
        assert internlm2.tokenizer.decode(ids) == "user\nx"
        assert internlm2.tokenizer.decode(ids, skip_special_tokens=False) == prompt


@pytest.mark.shared
def test_internlm_v1(internlm: Pair, documents: list[str]) -> None:
    """The first InternLM: other pieces with many equal scores, and its own end of turn."""
    texts = [*documents[:1000:4], *documents[1000::8], "().[i-=-- {}\n {\n} ----", "\0<eoh>\n<eoa>"]
    assert [internlm.tokenizer.encode(t, add_bos=False) for t in texts] == [internlm.reference_ids(t) for t in texts]
    assert internlm.tokenizer.stop_token_ids == {2, 103028}


# A few pieces are enough to test the conversion itself. They are written as a protocol buffer here, by hand.


def varint(number: int) -> bytes:
    return bytes([number & 0x7F | 0x80]) + varint(number >> 7) if number > 0x7F else bytes([number])


def field(number: int, value: int | float | bytes) -> bytes:
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    return varint(number << 3) + varint(value)


TRAINER = {3: 2, 35: 1, 40: 0, 41: 1, 42: 2}
NORMALIZER: dict[int, int | bytes] = {1: b"identity", 3: 0, 4: 0, 5: 1}


def model(
    pieces: Iterable[tuple[str, float, PieceType]],
    trainer: dict[int, int] | None = None,
    normalizer: dict[int, int | bytes] | None = None,
    *,
    with_bytes: bool = True,
) -> bytes:
    """A SentencePiece model of three reserved pieces, 256 bytes and `pieces`."""
    reserved = [("<unk>", 0.0, PieceType.UNKNOWN), ("<s>", 0.0, PieceType.CONTROL), ("</s>", 0.0, PieceType.CONTROL)]
    byte_pieces = [(f"<0x{byte:02X}>", 0.0, PieceType.BYTE) for byte in range(256 * with_bytes)]
    message = b"".join(
        field(1, field(1, text.encode()) + field(2, score) + field(3, int(kind)))
        for text, score, kind in [*reserved, *byte_pieces, *pieces]
    )
    for number, spec in ((2, TRAINER | (trainer or {})), (3, NORMALIZER | (normalizer or {}))):
        message += field(number, b"".join(field(key, value) for key, value in spec.items()))
    return message


SMALL = [
    ("a", -9.0, PieceType.NORMAL),
    ("b", -8.0, PieceType.NORMAL),
    ("ab", -1.0, PieceType.NORMAL),
    ("▁", -7.0, PieceType.NORMAL),
    ("▁a", -0.5, PieceType.NORMAL),
    ("▁▁", 0.0, PieceType.USER_DEFINED),
    ("ab▁b", 0.0, PieceType.USER_DEFINED),
    ("[UNUSED]", 0.0, PieceType.USER_DEFINED),
]
SMALL_VOCAB = 3 + 256 + len(SMALL)


def checkpoint(folder: Path, content: bytes, **tokenizer_config: Any) -> Path:
    """A checkpoint folder with nothing but a tokenizer."""
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.model").write_bytes(content)
    (folder / "tokenizer_config.json").write_text(json.dumps(NAMES | tokenizer_config))
    return folder


@pytest.mark.parametrize("seed", range(60))
def test_any_scores(tmp_path: Path, seed: int) -> None:
    """Overlapping pieces whose order of merging is anybody's guess."""
    rng = random.Random(seed)
    alphabet = rng.choice(["a", "ab", "abc", "ab▁"])
    texts = sorted(
        {*alphabet, *("".join(rng.choices(alphabet, k=rng.randint(2, 6))) for _ in range(rng.randint(2, 25)))}
    )
    scores = rng.sample(range(100), len(texts))
    pieces = [(text, -float(score), PieceType.NORMAL) for text, score in zip(texts, scores, strict=True)]
    tokenizer, reference = pair(checkpoint(tmp_path, model(pieces)), 3 + 256 + len(pieces))
    for _ in range(50):
        text = "".join(rng.choices(alphabet + " x", k=rng.randint(1, 25)))
        assert tokenizer.encode(text, add_bos=False) == reference.encode(text)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab ▁[UNSED]é\n", max_size=30))
def test_user_defined_symbols_come_first(small: Pair, text: str) -> None:
    assert small.tokenizer.encode(text, add_bos=False) == small.reference.encode(text)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, SMALL_VOCAB - 1), max_size=30))
def test_any_ids_of_a_small_model(small: Pair, ids: list[int]) -> None:
    assert small.tokenizer.decode(ids) == small.reference.decode(ids)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return pair(checkpoint(tmp_path_factory.mktemp("small"), model(SMALL)), SMALL_VOCAB)


@pytest.mark.parametrize(
    ("scores", "text"),
    [({"ab": -1.0, "bc": -1.0}, "abcabbcbc"), ({"bc": -1.0, "ab": -1.0, "ca": -1.0 - 2**-20}, "abcabcbca")],
)
def test_equal_scores_merge_from_the_left(tmp_path: Path, scores: dict[str, float], text: str) -> None:
    pieces = [(text, score, PieceType.NORMAL) for text, score in ({"a": -7.0, "b": -8.0, "c": -9.0} | scores).items()]
    tokenizer, reference = pair(checkpoint(tmp_path, model(pieces)), 3 + 256 + len(pieces))
    assert tokenizer.encode(text, add_bos=False) == reference.encode(text)


def test_equal_scores_without_an_order(tmp_path: Path) -> None:
    pieces = [(text, float(-len(text)), PieceType.NORMAL) for text in ("a", "b", "ab", "ba")]
    with pytest.raises(CheckpointError, match="no order fits"):
        tokenizer_files(checkpoint(tmp_path, model(pieces)), 300)


def test_conversion_repeats_byte_for_byte(tmp_path: Path) -> None:
    files = [tokenizer_files(checkpoint(tmp_path / name, model(SMALL)), SMALL_VOCAB) for name in "ab"]
    assert files[0] == files[1]
    assert sorted(files[0]) == ["tokenizer.json", "tokenizer_config.json"]


def test_added_tokens(tmp_path: Path) -> None:
    """A renamed symbol, a new one in the padding of the embedding, and ids beyond it, which old checkpoints have."""
    last = SMALL_VOCAB - 1
    decoder = {str(last): {"content": "<|im_end|>", "special": True}, str(last + 3): {"content": "<new>"}}
    folder = checkpoint(tmp_path, model(SMALL), added_tokens_decoder=decoder | {"9999": {"content": "<far>"}})
    (folder / "added_tokens.json").write_text(json.dumps({"<|im_end|>": 9998, "<old>": last + 2}))
    tokenizer = load(folder, SMALL_VOCAB + 5)
    assert tokenizer.encode("<|im_end|><new><old>", add_bos=False) == [last, last + 3, last + 2]
    assert not {last, 9998, 9999} & set(tokenizer.encode("[UNUSED]<far>", add_bos=False))
    assert tokenizer.special_ids == {0, 1, 2, last, last + 2}
    assert tokenizer.stop_token_ids == {2, last}
    assert tokenizer.id_to_bytes(last + 1) == b""
    assert tokenizer.decode([last, last + 3, last + 4]) == "<new>"


@pytest.mark.parametrize(
    ("generation", "config", "stops"),
    [
        (None, None, {2}),
        ({"eos_token_id": [2, 259]}, {"eos_token_id": 260}, {2, 259, 260}),
        ({"eos_token_id": 259}, {"eos_token_id": None}, {2, 259}),
        ({"eos_token_id": [2, 92542]}, {}, {2}),
    ],
)
def test_stop_tokens(tmp_path: Path, generation: Any, config: Any, stops: set[int]) -> None:
    folder = checkpoint(tmp_path, model(SMALL))
    for name, content in (("generation_config.json", generation), ("config.json", config)):
        if content is not None:
            (folder / name).write_text(json.dumps(content))
    assert load(folder, SMALL_VOCAB).stop_token_ids == stops


@pytest.mark.parametrize(("setting", "adds"), [({}, True), ({"add_bos_token": False}, False)])
def test_bos_as_the_checkpoint_says(tmp_path: Path, setting: dict[str, bool], adds: bool) -> None:
    tokenizer = load(checkpoint(tmp_path, model(SMALL), **setting), SMALL_VOCAB)
    assert (tokenizer.encode("a")[0] == tokenizer.bos_token_id) == adds
    assert (tokenizer.encode("") == [tokenizer.bos_token_id]) == adds


@pytest.mark.parametrize(
    "template", ["{{ messages }}", [{"name": "tools", "template": "x"}, {"name": "default", "template": "y"}]]
)
def test_chat_template_of_the_settings(tmp_path: Path, template: Any) -> None:
    folder = checkpoint(tmp_path, model(SMALL), chat_template=template)
    expected = template if isinstance(template, str) else "y"
    assert tokenizer_files(folder, SMALL_VOCAB)["chat_template.jinja"] == expected.encode()
    (folder / "chat_template.jinja").write_text("of its own ü", encoding="utf-8")
    assert tokenizer_files(folder, SMALL_VOCAB)["chat_template.jinja"].decode() == "of its own ü"


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
        ("tokenizer_config.json", "[" * 100_000, "tokenizer_config.json is not valid JSON"),
        ("tokenizer_config.json", "[]", "holds list"),
        ("tokenizer_config.json", "\xff", "not UTF-8"),
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
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json cannot be read"):
        tokenizer_files(tmp_path, SMALL_VOCAB)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(NAMES))
    with pytest.raises(CheckpointError, match=r"neither tokenizer\.model nor tokenizer\.json"):
        tokenizer_files(tmp_path, SMALL_VOCAB)


def test_tokenizer_of_another_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"token id {SMALL_VOCAB - 1}.*ends at {SMALL_VOCAB - 2}"):
        tokenizer_files(checkpoint(tmp_path, model(SMALL)), SMALL_VOCAB - 1)


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


def test_bad_requests(small: Pair) -> None:
    with pytest.raises(RequestError, match=r"U\+D83D at character 2"):
        small.tokenizer.encode("ab\ud83d")
    for token_id in (-1, SMALL_VOCAB):
        with pytest.raises(RequestError, match=f"token id {token_id} lies outside"):
            small.tokenizer.decode([token_id])


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
