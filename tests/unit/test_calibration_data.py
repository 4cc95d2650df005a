"""Calibration data: what is drawn from the real files and from files by hand, and the sentence for every mistake."""

import csv
import gzip
import io
import json
import zipfile
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from checkpoints import TINY_SIZES, assert_one_sentence
from hypothesis import given
from hypothesis import strategies as st

from ilmari.checkpoint.tokenizer import tokenizer_files
from ilmari.datasets import json_files
from ilmari.datasets.calibration import Calibration, Source, calibration_tokens
from ilmari.datasets.windows import Draw, Window, long_windows, packed_windows
from ilmari.errors import ConfigError, DataError
from ilmari.model.chat import ChatTemplate
from ilmari.model.tokenizer import Tokenizer

ALPACA = [
    {"instruction": "Add.", "input": "1 and 2", "output": "3"},
    {"instruction": "Say hello.", "input": "", "output": "Hello."},
    {"instruction": "Übersetze.", "output": "翻译"},
]


class Language(NamedTuple):
    tokenizer: Tokenizer
    chat: ChatTemplate
    base: ChatTemplate

    def drawn(self, *sources: Source, chat: bool = True, max_seq_len: int = 4096, **keys: int) -> list[Window]:
        calls: list[tuple[int, int]] = []
        calibration = Calibration(sources, **keys)
        windows = calibration_tokens(
            calibration,
            self.tokenizer,
            self.chat if chat else self.base,
            max_seq_len=max_seq_len,
            progress=lambda *call: calls.append(call),
        )
        assert calls == sorted(set(calls))
        assert calls[-1] == (calibration.nsamples, calibration.nsamples)
        assert {total for _, total in calls} == {calibration.nsamples}
        assert [(w.dtype, w.shape) for w in windows] == [(np.int32, (calibration.seqlen,))] * calibration.nsamples
        return windows

    def texts(self, windows: list[Window], *, special: bool = False) -> list[str]:
        return [self.tokenizer.decode(map(int, window), skip_special_tokens=not special) for window in windows]

    def refusal(self, name: str, path: Path, **keys: int) -> str:
        with pytest.raises(DataError) as refused:
            self.drawn(Source(name, path), **keys)
        assert_one_sentence(refused.value)
        return str(refused.value)


def language(checkpoint: Path, folder: Path, vocab_size: int) -> Language:
    for name, content in tokenizer_files(checkpoint, vocab_size).items():
        (folder / name).write_bytes(content)
    tokenizer = Tokenizer.load(folder)
    marks = (tokenizer.bos_token, tokenizer.eos_token)
    return Language(tokenizer, ChatTemplate.load(folder, *marks), ChatTemplate(None, *marks))


@pytest.fixture(scope="module")
def internlm2(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Language:
    return language(shared / "tokenizers" / "internlm2", tmp_path_factory.mktemp("internlm2"), 92544)


@pytest.fixture(scope="module")
def tiny(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Language:
    """One token for each byte."""
    return language(tiny_checkpoint, tmp_path_factory.mktemp("bytes"), TINY_SIZES["vocab"])


def json_lines(path: Path, values: list[object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = "".join(f"{json.dumps(value, ensure_ascii=False)}\n" for value in values).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def texts(*values: str) -> list[object]:
    return [{"text": value, "url": "https://example.org"} for value in values]


# The real files, read here by other means


@pytest.mark.shared
class TestRealSets:
    def test_c4(self, shared: Path, internlm2: Language) -> None:
        path = shared / "data" / "c4_en_sample.jsonl"
        documents = [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]
        windows = internlm2.drawn(Source("c4", path), nsamples=16, seqlen=768)
        found = []
        for text in internlm2.texts(windows):
            middle = text.strip("�")[8:-8]
            (document,) = [each for each in documents if middle in each]
            found.append(document)
            assert len(internlm2.tokenizer.encode(document)) >= 768
        assert len(set(found)) == 16

    def test_alpaca_in_the_chat_format(self, shared: Path, internlm2: Language) -> None:
        path = shared / "data" / "alpaca_5000.json"
        known = {
            f"<|im_start|>user\n{each['instruction']}{each['input'] and chr(10)}{each['input']}<|im_end|>\n"
            f"<|im_start|>assistant\n{each['output']}<|im_end|>\n"
            for each in json.loads(path.read_text(encoding="utf-8"))
        }
        seen: list[str] = []
        for text in internlm2.texts(internlm2.drawn(Source("alpaca", path), nsamples=24), special=True):
            start, *samples, cut = text.split("<s>")
            assert start == ""
            assert known.issuperset(samples)
            assert any(sample.startswith(cut.rstrip("�")) for sample in known)
            seen += samples
        assert len(seen) == len(set(seen)) > 50

    def test_alpaca_for_a_base_model(self, shared: Path, internlm2: Language) -> None:
        path = shared / "data" / "alpaca_5000.json"
        windows = internlm2.drawn(Source("alpaca", path), chat=False, nsamples=4)
        for text in internlm2.texts(windows, special=True):
            assert text.startswith("<s>Below is an instruction that describes a task")
            assert "\n\n### Instruction:\n" in text
            assert "\n\n### Response:\n" in text

    def test_ceval(self, shared: Path, internlm2: Language) -> None:
        path = shared / "data" / "ceval-exam.zip"
        known = {"dev": set[str](), "test": set[str](), "val": set[str]()}
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(".csv"):
                    for row in csv.DictReader(io.StringIO(archive.read(name).decode("utf-8-sig"), newline="")):
                        choices = "".join(f"\n{letter}. {row[letter]}" for letter in "ABCD")
                        answer = f"\n答案：{row['answer']}" if "answer" in row else ""
                        known[name.partition("/")[0]].add(f"{row['question']}{choices}{answer}")
        seen = set()
        for text in internlm2.texts(internlm2.drawn(Source("ceval", path), nsamples=64, seqlen=384), special=True):
            start, *samples, _ = text.split("<s>")
            assert start == ""
            seen.update(samples)
        assert len(seen) > 64
        assert seen <= known["test"] | known["dev"]
        assert seen & known["dev"]
        assert not seen & known["val"]


# Which windows


def test_equal_seeds_draw_equal_windows(tiny: Language, tmp_path: Path) -> None:
    c4 = Source("c4", json_lines(tmp_path / "c4.jsonl", texts(*(f"{i:04} " * 40 for i in range(50)))))
    alpaca = Source("alpaca", json_lines(tmp_path / "alpaca.jsonl", [*ALPACA * 20]))
    for sources in ((c4,), (alpaca,), (c4, alpaca)):
        keys = {"nsamples": 8, "seqlen": 64}
        first, again, other = (tiny.drawn(*sources, **keys, seed=seed) for seed in (3, 3, 4))
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)


def test_windows_of_the_default_seed_stay_the_same(tiny: Language, tmp_path: Path) -> None:
    path = json_lines(tmp_path / "c4.json.gz", texts(*(f"{i}-" * 9 for i in range(20))))
    assert tiny.texts(tiny.drawn(Source("c4", path), nsamples=3, seqlen=8)) == ["0-10-10-", "1-1-1-1", "-16-16-1"]


def test_sampling_is_fair(tmp_path: Path) -> None:
    """Every long text is as likely as every other, and so is every place in it."""

    def encode(text: str) -> list[int]:
        return [int(text[:2]) * 100 + i for i in range(len(text))]

    long = [f"{i:02}{'x' * 10}" for i in range(20)]  # of 12 tokens: 5 windows of 8
    short = ["99xxxx"] * 20
    chosen, starts = np.zeros(20), np.zeros(5)
    for seed in range(400):
        draw = Draw(tmp_path, 5, 8, np.random.default_rng(seed), lambda _: None)
        for window in long_windows([*long[:10], *short, *long[10:]], encode, draw):
            np.testing.assert_array_equal(window, window[0] + np.arange(8))
            chosen[window[0] // 100] += 1
            starts[window[0] % 100] += 1
    assert (abs(chosen - 100) < 4 * np.sqrt(100 * 0.75)).all()
    assert (abs(starts - 400) < 4 * np.sqrt(400 * 0.8)).all()


def test_a_text_is_tokenized_only_if_it_may_be_kept(tmp_path: Path) -> None:
    calls = []

    def encode(text: str) -> list[int]:
        calls.append(text)
        return list(range(10))

    draw = Draw(tmp_path, 4, 8, np.random.default_rng(0), lambda _: None)
    assert len(long_windows(("enough bytes" for _ in range(5000)), encode, draw)) == 4
    assert 4 <= len(calls) < 80  # 4 (1 + ln(5000 / 4)) = 33 are expected
    calls.clear()
    with pytest.raises(DataError):
        long_windows(["short"] * 10, encode, draw)
    assert calls == []


@given(
    lengths=st.lists(st.integers(0, 30), max_size=60),
    count=st.integers(1, 6),
    length=st.integers(1, 20),
    seed=st.integers(0, 2**32),
)
def test_packing(lengths: list[int], count: int, length: int, seed: int) -> None:
    samples = [[i] * size for i, size in enumerate(lengths)]
    draw = Draw(Path("x"), count, length, np.random.default_rng(seed), lambda _: None)
    try:
        windows = packed_windows(samples, lambda sample: sample, draw)
    except DataError as error:
        assert_one_sentence(error)
        assert sum(lengths) < count * (length + max(lengths, default=0))
        return
    seen: list[int] = []
    for window in windows:
        runs = [(i, len(list(run))) for i, run in groupby(window.tolist())]
        assert all(size == lengths[i] for i, size in runs[:-1])
        assert runs[-1][1] <= lengths[runs[-1][0]]
        seen += [i for i, _ in runs]
    assert len(windows) == count
    assert len(seen) == len(set(seen))


@given(weights=st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=8), nsamples=st.integers(1, 10_000))
def test_shares_follow_the_weights(weights: list[float], nsamples: int) -> None:
    sources = tuple(Source("c4", Path("x"), weight) for weight in weights)
    shares = Calibration(sources, nsamples).shares
    assert sum(shares) == nsamples
    for share, weight in zip(shares, weights, strict=True):
        assert abs(share - nsamples * weight / sum(weights)) < 1


def test_mixture(tiny: Language, tmp_path: Path) -> None:
    sources = [
        Source("c4", json_lines(tmp_path / "a.jsonl", texts(*["a" * 99] * 20)), weight=2),
        Source("alpaca", json_lines(tmp_path / "b.jsonl", [*ALPACA * 20]), weight=0.5),
        Source("c4", json_lines(tmp_path / "c.jsonl", texts(*["c" * 99] * 20)), weight=0.5),
    ]
    found = tiny.texts(tiny.drawn(*sources, nsamples=12, seqlen=24))
    assert [set(text) == {"a"} for text in found] == [True] * 8 + [False] * 4
    assert all(text.startswith("user\n") for text in found[8:10])
    assert [set(text) for text in found[10:]] == [{"c"}] * 2


def test_alpaca_by_hand(tiny: Language, tmp_path: Path) -> None:
    path = json_lines(tmp_path / "alpaca.jsonl", [ALPACA[2]])
    (chat,) = tiny.texts(tiny.drawn(Source("alpaca", path), nsamples=1, seqlen=39), special=True)
    assert chat == "<s><|im_start|>user\nÜbersetze.<|im_end|>\n<|im_start|>assistant\n翻译<|im_end|>\n"
    base = tiny.drawn(Source("alpaca", path), nsamples=1, seqlen=158, chat=False)
    assert tiny.texts(base) == [
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nÜbersetze.\n\n### Response:\n翻译"
    ]
    path.write_text(json.dumps(ALPACA[:1]))
    (text,) = tiny.texts(tiny.drawn(Source("alpaca", path), nsamples=1, seqlen=218, chat=False))
    assert "further context. Write a response" in text
    assert text.endswith("\n\n### Instruction:\nAdd.\n\n### Input:\n1 and 2\n\n### Response:\n3")


# Which files


def test_hub_folders(tiny: Language, tmp_path: Path) -> None:
    hub = tmp_path / "allenai" / "c4"
    json_lines(hub / "en" / "c4-validation.00000-of-00008.json.gz", texts(*["validation"] * 9))
    (hub / "README.md").write_text("C4")
    keys = {"nsamples": 4, "seqlen": 4}
    assert set("".join(tiny.texts(tiny.drawn(Source("c4", hub), **keys)))) <= set("validation")
    for part in range(2):
        json_lines(hub / "en" / f"c4-train.0000{part}-of-01024.json.gz", texts(*[f"{part}" * 9] * 9))
    assert set("".join(tiny.texts(tiny.drawn(Source("c4", hub), **keys)))) == {"0", "1"}

    alpaca = tmp_path / "alpaca-cleaned"
    json_lines(alpaca / "alpaca_data_cleaned.json", [*ALPACA * 9])
    assert tiny.drawn(Source("alpaca", alpaca), **keys)


def test_a_folder_is_read_until_there_is_enough(
    tiny: Language, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        json_lines(tmp_path / f"{name}.jsonl", texts(*[name * 9] * 9))
    (tmp_path / "c.jsonl").write_text("not read")
    size = (tmp_path / "a.jsonl").stat().st_size
    monkeypatch.setattr("ilmari.datasets.calibration._ENOUGH_BYTES", size + 1)
    assert set("".join(tiny.texts(tiny.drawn(Source("c4", tmp_path), nsamples=9, seqlen=4)))) == {"a", "b"}


# What is refused


def test_a_hub_folder_without_its_blobs(tiny: Language, tmp_path: Path) -> None:
    (tmp_path / "train.json.gz").symlink_to(tmp_path / "blobs" / "absent")
    for name in ("c4", "alpaca"):
        assert tiny.refusal(name, tmp_path) == f"{tmp_path}/train.json.gz cannot be read: No such file or directory."


@pytest.mark.parametrize("name", ["c4", "alpaca", "ceval"])
def test_absent(tiny: Language, tmp_path: Path, name: str) -> None:
    message = tiny.refusal(name, tmp_path / "allenai" / "c4")
    assert message.startswith(f"{tmp_path}/allenai/c4 does not exist, and nothing is downloaded: fetch it yourself")
    assert "`hf download " in message
    assert "has no" in tiny.refusal(name, tmp_path)


def test_hub_id(tiny: Language) -> None:
    message = tiny.refusal("c4", Path("allenai/c4"))
    assert "`hf download allenai/c4 en/c4-train.00000-of-01024.json.gz --repo-type dataset --local-dir .`" in message


def test_parquet(tiny: Language, tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    path.write_bytes(b"PAR1")
    for given_path in (path, tmp_path):
        assert "holds Parquet, which is not read here" in tiny.refusal("c4", given_path)


GOOD = json.dumps({"text": "a" * 40})
BAD_LINES: list[tuple[str, bytes, str]] = [
    ("c4", b'{"text": 1}', "line 2: text is a number; expected a string"),
    ("c4", b'{"text": null}', "line 2: text is null"),
    ("c4", b'{"instruction": "", "output": ""}', "line 2 has the keys instruction, output; expected a key text"),
    ("c4", b"{}", "line 2 has the keys none"),
    ("c4", b"[1, 2]", "line 2 is a list; expected a JSON object"),
    ("c4", b'{"text": "a', "line 2 is not valid JSON (Unterminated string starting at, at column 10)"),
    ("c4", b"[" * 100_000, "line 2 is nested too deeply"),
    ("c4", b"9" * 5000, "line 2 has a number of too many digits"),
    ("c4", b'{"text": "caf\xe9"}', "line 2 is not UTF-8 text (byte 13)"),
    ("c4", b'{"text": "abc\\ud800"}', "line 2: text has half a character at 3"),
    ("alpaca", b"", "line 1 has the keys text; expected a key instruction"),
    ("ceval", b"", "is not a zip"),
]


@pytest.mark.parametrize(("name", "line", "words"), BAD_LINES, ids=lambda value: repr(value)[:30])
def test_bad_line(tiny: Language, tmp_path: Path, name: str, line: bytes, words: str) -> None:
    for path in (tmp_path / "lines.json", tmp_path / "lines.json.gz"):
        data = GOOD.encode() + b"\n" + line + b"\n\n"
        path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
        message = tiny.refusal(name, path, nsamples=1, seqlen=8)
        assert message.startswith(str(path))
        assert words in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[1]", "item 1 is a number; expected a JSON object"),
        ("[{}, 1", "is not valid JSON (Expecting ',' delimiter, at column 7)"),
        ("[\n{]", "is not valid JSON (Expecting property name enclosed in double quotes, at line 2, column 2)"),
        ('[{"instruction": "a", "response": "b"}]', "item 1 has the keys instruction, response; expected a key output"),
        ('[{"instruction": "a", "input": 3, "output": "b"}]', "item 1: input is a number"),
        ("[]", "has 0 samples, which fill 0 windows of 512 tokens, and 128 are asked for"),
        ("", "has 0 samples"),
        (json.dumps(ALPACA), "has 3 samples, which fill 0 windows of 512 tokens"),
    ],
)
def test_bad_alpaca(tiny: Language, tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "alpaca.json"
    path.write_text(content)
    assert words in tiny.refusal("alpaca", path)


def test_too_few_long_documents(tiny: Language, tmp_path: Path) -> None:
    path = json_lines(tmp_path / "c4.jsonl", texts(*["x" * 100] * 5, *["x" * 200] * 2))
    message = tiny.refusal("c4", path, nsamples=3, seqlen=150)
    assert "has 2 documents of 150 tokens or more among 7, and 3 are asked for; lower `dataset.nsamples`" in message
    path.write_text("")
    assert "has 0 documents of 150 tokens or more among 0" in tiny.refusal("c4", path, nsamples=3, seqlen=150)


def test_only_the_measured_split(tiny: Language, tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "law_val.csv").write_text("id,question,A,B,C,D,answer\n0,q,a,b,c,d,A\n")
    assert "only the split val, which is kept for measuring" in tiny.refusal("ceval", tmp_path)


def test_longer_than_the_model(tiny: Language, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        tiny.drawn(Source("c4", tmp_path), seqlen=65, max_seq_len=64)
    assert str(refused.value) == "`dataset.seqlen` is 65, and the model takes at most 64 tokens; lower it."


def test_damaged_gzip(tiny: Language, tmp_path: Path) -> None:
    path = json_lines(tmp_path / "c4.json.gz", texts(*(f"{i}" * 50 for i in range(500))))
    data = path.read_bytes()
    for damaged in (data[: len(data) // 2], data[:100] + b"\0\0\0\0" + data[104:], data[:-8] + b"\0" * 8, data + b"x"):
        path.write_bytes(damaged)
        assert f"{path} is damaged" in tiny.refusal("c4", path, nsamples=2, seqlen=8)


def test_gzip_bombs(tiny: Language, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c4.json.gz"
    path.write_bytes(gzip.compress(b" " * (json_files.MAX_LINE_BYTES + 1)))
    assert path.stat().st_size < 20_000
    assert "line 1 has more than 16,777,216 bytes" in tiny.refusal("c4", path)
    monkeypatch.setattr(json_files, "MAX_LINES_BYTES", 10_000)
    monkeypatch.setattr(json_files, "MAX_DOCUMENT_BYTES", 10_000)
    json_lines(path, texts(*["x"] * 1000))
    assert "unpacks to more than 10,000 bytes" in tiny.refusal("c4", path)
    assert "has more than 10,000 bytes when unpacked" in tiny.refusal("alpaca", path)


def test_not_a_plain_file(tiny: Language) -> None:
    assert "/dev/null is not a plain file" in tiny.refusal("c4", Path("/dev/null"))


def test_files_are_streamed(tmp_path: Path) -> None:
    path = tmp_path / "c4.jsonl"
    path.write_text('{"text": "a"}\n{')
    stream = json_files.records(path)
    assert next(stream).text("text") == "a"
    with pytest.raises(DataError, match="line 2"):
        next(stream)
