"""Answers to C-Eval and losses on WikiText-2, against transformers' logits for the same weights, prompts built anew."""

import csv
import io
import math
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tokenizers

from ilmari import LLM
from ilmari.compile.config import load_config
from ilmari.compile.pipeline import compile_model
from ilmari.datasets.ceval import Exam
from ilmari.demo.recipe import write_recipe
from ilmari.evaluation.comparison import compare
from ilmari.evaluation.corpus import Corpus
from ilmari.evaluation.exam import choose, take
from ilmari.evaluation.journal import Journal
from ilmari.evaluation.perplexity import measure

pytestmark = [pytest.mark.demo_model, pytest.mark.shared, pytest.mark.torch, pytest.mark.slow]

SUBJECTS = {"college_physics": "大学物理", "law": "法学"}
QUESTIONS, SHOTS = 4, 1
TOKENS, WINDOW = 700, 400


@pytest.fixture(scope="module")
def artifact(demo_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory, kernels_compiled_once: Path) -> Path:  # noqa: ARG001
    """float16 weights, the checkpoint's own."""
    config = load_config(write_recipe(tmp_path_factory.mktemp("artifacts"), demo_checkpoint, "fp16"))
    return compile_model(config, report=lambda *_: None)


@pytest.fixture(scope="module")
def llm(artifact: Path, one_linear_kernel: None) -> LLM:  # noqa: ARG001
    """With float32 activations: no rounding but that of keys and values."""
    return LLM(artifact, max_num_seqs=1)


def test_answers(llm: LLM, shared: Path, demo_checkpoint: Path) -> None:
    """Every letter's probability, so every answer whose rival is not nearer than rounding."""
    pytest.importorskip("transformers")
    from demo_model import llama_from_checkpoint
    from reference import reference_logits

    archive = shared / "data" / "ceval-exam.zip"
    items = choose(Exam.open(archive), "val", list(SUBJECTS), SHOTS, QUESTIONS)
    answers = take(llm, items, Journal(None, {}), lambda *_: None)
    llama = llama_from_checkpoint(demo_checkpoint)
    tokenizer = tokenizers.Tokenizer.from_file(str(demo_checkpoint / "tokenizer.json"))
    expected = []
    for subject, chinese in SUBJECTS.items():
        (shot, *_), questions = (rows_of(archive, split, subject) for split in ("dev", "val"))
        header = f"以下是中国关于{chinese}考试的单项选择题，请选出其中的正确答案。\n\n{asked(shot)}{shot['answer']}\n\n"
        for question in questions[: QUESTIONS // len(SUBJECTS)]:
            prompt = tokenizer.encode(header + asked(question), add_special_tokens=False).ids
            with_letters = [
                tokenizer.encode(header + asked(question) + letter, add_special_tokens=False).ids for letter in "ABCD"
            ]
            assert all(ids[:-1] == prompt for ids in with_letters), "this tokenizer has a token for each letter"
            logprobs = log_softmax(reference_logits(llama, prompt))[-1]
            expected.append((subject, question["answer"], logprobs[[ids[-1] for ids in with_letters]]))
    assert len(answers) == len(expected) == QUESTIONS
    for answer, (subject, right, logprobs) in zip(answers, expected, strict=True):
        assert (answer.subject, answer.answer, answer.shots) == (subject, right, SHOTS)
        assert answer.logprobs == pytest.approx(logprobs.tolist(), abs=0.01)
        assert answer.chosen == "ABCD"[logprobs.argmax()]


def test_losses(llm: LLM, shared: Path, demo_checkpoint: Path) -> None:
    """Perplexity in two windows, and a comparison of the model with itself."""
    pytest.importorskip("transformers")
    from demo_model import llama_from_checkpoint
    from reference import reference_logits

    corpus = Corpus.read(shared / "data" / "wikitext-2" / "test.txt", llm.tokenizer, WINDOW, TOKENS)
    llama = llama_from_checkpoint(demo_checkpoint)
    losses: list[float] = []
    for start in range(0, TOKENS, WINDOW):
        window = list(corpus.ids[start : start + WINDOW])
        logs = log_softmax(reference_logits(llama, window))
        losses += [-float(logs[place, token]) for place, token in enumerate(window[1:])]
    found = measure(llm, corpus, Journal(None, {}), lambda *_: None).fields()
    assert found["scored"] == len(losses) == TOKENS - 2
    assert found["perplexity"] == pytest.approx(math.exp(np.mean(losses)), rel=3e-4)
    likeness = compare([llm, llm], corpus, Journal(None, {}), lambda *_: None).models[1]
    assert (likeness.agreement, likeness.increase) == (1, 0)
    assert likeness.kl_p99 == pytest.approx(0, abs=1e-9)


def rows_of(archive: Path, split: str, subject: str) -> Sequence[dict[str, str]]:
    with zipfile.ZipFile(archive) as opened:
        text = opened.read(f"{split}/{subject}_{split}.csv").decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def asked(row: dict[str, str]) -> str:
    return "\n".join([row["question"], *(f"{letter}. {row[letter]}" for letter in "ABCD"), "答案："])


def log_softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    scores = logits.astype(np.float64)
    scores -= scores.max(axis=-1, keepdims=True)
    result: npt.NDArray[np.float64] = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    return result
