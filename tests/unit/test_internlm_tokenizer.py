"""The tokenizers of released InternLM models: SentencePiece's ids and text, over whole corpora."""

import csv
import io
import json
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tokenizer import NAMES, Pair, pair

INTERNLM2_VOCAB, INTERNLM_VOCAB = 92544, 103168
MARKERS = {
    92538: "<|plugin|>",
    92539: "<|interpreter|>",
    92540: "<|action_end|>",
    92541: "<|action_start|>",
    92542: "<|im_end|>",
    92543: "<|im_start|>",
}


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
