"""`ilmari eval`: figures against sums in float64, runs that go on when they were killed, and what is refused."""

import json
import math
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import CompileTiny
from commands import ILMARI, ilmari
from refusals import assert_one_error, ilmari_here

from ilmari import LLM

TEXT = "Räkä on 好. The quick brown fox; " * 20
HEAD = "id,question,A,B,C,D,answer\n"
CEVAL = {
    "val/law_val.csv": HEAD + "".join(f"{number},q{number},1,2,3,4,{'ABCD'[number % 4]}\n" for number in range(6)),
    "val/logic_val.csv": HEAD + "0,q,1,2,3,4,C\n",
    "dev/law_dev.csv": HEAD + "0,d,1,2,3,4,A\n",
    "dev/logic_dev.csv": HEAD + "0,d,1,2,3,4,A\n",
}


@pytest.fixture
def artifact(compile_tiny: CompileTiny) -> Path:
    """Sequences have at most 256 tokens, one for each byte."""
    return compile_tiny("fp16")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture
def ceval(tmp_path: Path) -> Path:
    for name, content in CEVAL.items():
        path = tmp_path / "ceval" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return Path(shutil.make_archive(str(tmp_path / "ceval-exam"), "zip", tmp_path / "ceval"))


def only_json(*args: str | Path) -> dict[str, Any]:
    result = ilmari_here("eval", *args, "--json")
    assert result.returncode == 0, result.stderr
    (line,) = result.stdout.splitlines()
    found: dict[str, Any] = json.loads(line)
    assert found.keys() >= {"cpu", "threads", "date", "versions"}
    return found


def log_probabilities(llm: LLM, ids: list[int]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Of every token after each but the last, in float64."""
    scores = llm.logits(ids)[:-1].astype(np.float64)
    result: np.ndarray[tuple[int, int], np.dtype[np.float64]] = scores - np.log(np.exp(scores).sum(axis=1))[:, None]
    return result


def test_perplexity(artifact: Path, text: Path) -> None:
    """Against sums in float64, in windows of which the last is shorter."""
    found = only_json("perplexity", "--model", artifact, "--data", text, "--window", "100", "--tokens", "330")
    llm = LLM(artifact, max_num_seqs=1)
    ids = llm.tokenizer.encode(TEXT, add_bos=False)[:330]
    losses: list[float] = []
    for start in range(0, 330, 100):
        window = ids[start : start + 100]
        losses += (-log_probabilities(llm, window)[np.arange(len(window) - 1), window[1:]]).tolist()
    assert len(losses) == found["scored"] == found["bytes"] == 326
    assert found["perplexity"] == pytest.approx(math.exp(sum(losses) / 326), rel=1e-6)
    assert found["bits_per_byte"] == pytest.approx(sum(losses) / 326 / math.log(2), rel=1e-6)
    assert (found["tokens"], found["window"], found["model"], found["scheme"]) == (330, 100, artifact.name, "fp16")
    assert 0 < found["tok_s"] < math.inf


def test_perplexity_as_a_table(artifact: Path, text: Path) -> None:
    result = ilmari("eval", "perplexity", "--model", artifact, "--data", text, "--threads", "1")
    assert result.returncode == 0, result.stderr
    assert f"{artifact.name} on {text}, windows of 256 tokens\n" in result.stdout
    for word in ("perplexity ", "bits per byte ", "tokens scored ", "tokens/s "):
        assert f"\n{word}" in result.stdout
    assert result.stderr.startswith("windows: ")


def test_compare(compile_tiny: CompileTiny, text: Path) -> None:
    folders = [compile_tiny(scheme) for scheme in ("fp16", "w8a16", "w8a8")]
    arguments = ("compare", *folders, "--data", text, "--tokens", "300")
    found = only_json(*arguments)
    llms = [LLM(folder, max_num_seqs=1) for folder in folders]
    ids = llms[0].tokenizer.encode(TEXT, add_bos=False)[:300]
    logs = [np.concatenate([log_probabilities(llm, ids[:256]), log_probabilities(llm, ids[256:])]) for llm in llms]
    targets = [*ids[1:256], *ids[257:]]
    assert found["scored"] == len(targets) == 298
    for its, log in zip(found["models"], logs, strict=True):
        divergences = (np.exp(logs[0]) * (logs[0] - log)).sum(axis=1)
        perplexity = np.exp(-log[np.arange(298), targets].mean())
        assert its["perplexity"] == pytest.approx(perplexity, rel=1e-6)
        assert its["agreement"] == (log.argmax(axis=1) == logs[0].argmax(axis=1)).mean()
        assert its["kl_mean"] == pytest.approx(divergences.mean(), rel=1e-3, abs=1e-7)
        assert its["kl_p99"] == pytest.approx(np.percentile(divergences, 99), rel=1e-3, abs=1e-7)
        assert its["increase"] == pytest.approx(its["perplexity"] / found["models"][0]["perplexity"] - 1, abs=1e-9)
    assert [its["scheme"] for its in found["models"]] == ["fp16", "w8a16", "w8a8"]
    assert found["models"][1]["kl_mean"] > 1e-5

    table = ilmari_here("eval", *arguments).stdout
    assert f"against {folders[0].name}\n" in table
    assert [line.split()[:2] for line in table.splitlines()[-3:]] == [
        [its["model"], its["scheme"]] for its in found["models"]
    ]


def test_ceval(artifact: Path, ceval: Path, tmp_path: Path) -> None:
    arguments = ("ceval", "--model", artifact, "--data", ceval, "--shots", "1")
    found = only_json(*arguments)
    assert (found["exam"], found["split"], found["shots"], found["questions"]) == ("C-Eval", "val", 1, 7)
    assert [(each["subject"], each["questions"]) for each in found["subjects"]] == [("law", 6), ("logic", 1)]
    assert [answer["answer"] for answer in found["answers"]] == [*"ABCDAB", "C"]
    assert found["correct"] == sum(answer["chosen"] == answer["answer"] for answer in found["answers"])
    assert (found["shortened"], found["cut"]) == (0, 0)

    output = tmp_path / "result.json"
    result = ilmari_here("eval", *arguments, "--subject", "logic", "--output", output)
    assert "\nlogic    Humanities" in result.stdout
    assert "\naverage of the subjects" in result.stdout
    written = json.loads(output.read_text(encoding="utf-8"))
    assert [row["logprobs"] for row in written["answers"]] == [found["answers"][6]["logprobs"]]


def test_long_prompts_are_shortened_and_said_to_be(artifact: Path, ceval: Path) -> None:
    folder = ceval.with_name("ceval")
    for name in ("dev/law_dev.csv", "dev/logic_dev.csv"):
        (folder / name).write_text(f"{HEAD}0,{'d' * 200},1,2,3,4,A\n", encoding="utf-8")
    result = ilmari_here("eval", "ceval", "--model", artifact, "--data", folder, "--shots", "1")
    assert result.stdout.endswith("7 prompts were too long for all shots and got fewer; 0 were cut.\n")


def test_interrupted_run_goes_on(artifact: Path, text: Path, tmp_path: Path) -> None:
    """A real SIGKILL after the first windows; what is measured is what an undisturbed run measures."""
    output = tmp_path / "result.json"
    partial = tmp_path / "result.json.partial"
    text.write_text(TEXT * 200, encoding="utf-8")
    arguments = ("eval", "perplexity", "--model", artifact, "--data", text, "--tokens", "100000", "--output", output)
    process = subprocess.Popen([*ILMARI, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while process.poll() is None and not (partial.exists() and partial.read_bytes().count(b"\n") > 2):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    result = ilmari_here(*arguments)
    assert "windows of an interrupted run" in result.stderr
    assert not partial.exists()
    found = json.loads(output.read_text(encoding="utf-8"))
    fresh = only_json("perplexity", "--model", artifact, "--data", text, "--tokens", "100000")
    assert found["perplexity"] == fresh["perplexity"]


REFUSED: Mapping[str, tuple[list[str], str]] = {
    "absent text": (["perplexity", "--data", "absent.txt"], "absent.txt cannot be read: No such file"),
    "few tokens": (["perplexity", "--data", "{text}", "--tokens", "9999"], "tokens, and 9,999 are needed"),
    "wide window": (["perplexity", "--data", "{text}", "--window", "257"], "takes 256 tokens; give 256 or less"),
    "folder as output": (["perplexity", "--data", "{text}", "--output", "."], ". is a folder; name a file"),
    "no place for output": (["perplexity", "--data", "{text}", "--output", "absent/x.json"], "cannot be written"),
    "absent exam": (["ceval", "--data", "absent.zip"], "absent.zip does not exist"),
    "text as an exam": (["ceval", "--data", "{text}"], "is not a zip"),
    "unknown subject": (["ceval", "--data", "{ceval}", "--subject", "lw"], "the nearest is law."),
    "unknown split": (["ceval", "--data", "{ceval}", "--split", "exam"], "has no split 'exam'"),
    "many shots": (["ceval", "--data", "{ceval}", "--shots", "2"], "has 1 questions of law in dev; give --shots 1"),
    "hosts of one rank": (["perplexity", "--data", "{text}", "--hosts", "a,b"], "this artifact runs on one rank, here"),
    "devices of one rank": (["perplexity", "--data", "{text}", "--devices", "0,1"], "names 2 devices for 1 ranks"),
    "hosts for an exam": (
        ["ceval", "--data", "{ceval}", "--shots", "1", "--hosts", "a,b"],
        "this artifact runs on one rank, here",
    ),
    "devices for an exam": (
        ["ceval", "--data", "{ceval}", "--shots", "1", "--devices", "0,1"],
        "names 2 devices for 1 ranks",
    ),
}


@pytest.mark.parametrize(("arguments", "words"), REFUSED.values(), ids=REFUSED)
def test_refused(artifact: Path, text: Path, ceval: Path, arguments: list[str], words: str) -> None:
    filled = [word.format(text=text, ceval=ceval) for word in arguments]
    result = ilmari_here("eval", *filled, "--model", artifact)
    assert_one_error(result, words)
    assert result.stdout == ""


def test_models_that_cannot_be_compared(
    artifact: Path, compile_tiny: CompileTiny, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = ilmari_here("eval", "compare", artifact, "--data", text)
    assert_one_error(result, f"There is only {artifact} to compare; name two artifacts or more")
    code = (artifact / "kernels.o").read_bytes()
    monkeypatch.setattr("ilmari.kernels.compiler.compile_kernels", lambda *_: code)  # they are never run
    other = compile_tiny("fp16", vocab=334)
    result = ilmari_here("eval", "compare", artifact, other, "--data", text)
    assert_one_error(result, "differ in their vocabularies (333 and 334 tokens); compare models of one vocabulary")
    result = ilmari_here("eval", "compare", artifact, tmp_path, "--data", text)
    assert_one_error(result, f"{tmp_path} is not a compiled model")
    for option, words in (("--hosts", "runs on one rank, here"), ("--devices", "names 2 devices for 1 ranks")):
        result = ilmari_here("eval", "compare", artifact, other, "--data", text, option, "0,1")
        assert_one_error(result, words)


@pytest.mark.parametrize(
    "arguments", [["perplexity"], ["perplexity", "--model", "x"], ["ceval", "--model", "x"], ["compare"], ["all"]]
)
def test_usage_error(arguments: list[str]) -> None:
    result = ilmari_here("eval", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert "Usage:" in result.stderr
