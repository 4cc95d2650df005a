"""Small SentencePiece models are converted and used so that SentencePiece would give the same ids."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tokenizer import SMALL, SMALL_VOCAB, Pair, checkpoint, load, model, pair

from ilmari.checkpoint.sentencepiece import PieceType
from ilmari.checkpoint.tokenizer import tokenizer_files
from ilmari.errors import CheckpointError, RequestError


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


def test_bad_requests(small: Pair) -> None:
    with pytest.raises(RequestError, match=r"U\+D83D at character 2"):
        small.tokenizer.encode("ab\ud83d")
    for token_id in (-1, SMALL_VOCAB):
        with pytest.raises(RequestError, match=f"token id {token_id} lies outside"):
            small.tokenizer.decode([token_id])
