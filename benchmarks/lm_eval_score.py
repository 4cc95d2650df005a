"""Compares the score that lm-eval gives a served model with that of the built-in scorer, on the same prompts.

    python -m benchmarks.lm_eval_score --python VENV/bin/python --data ceval-exam.zip [--limit 200] [--output FILE]

VENV has `lm-eval[api]` and transformers, and reads the checkpoint's tokenizer: the prompts' tokens are its own too.
"""

import argparse
import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.peers import cache
from benchmarks.serving import setup_demo
from benchmarks.serving.servers import ilmari_server
from ilmari.bench.machine import provenance
from ilmari.datasets.ceval import LETTERS, Exam
from ilmari.engine.llm import LLM
from ilmari.evaluation.exam import Answer, choose, take
from ilmari.evaluation.exam_prompt import Item
from ilmari.evaluation.journal import Journal

RESULTS = Path(__file__).parent / "results" / "lm_eval.json"
TASK = "ceval_prompts"
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
CONCURRENT = 4


@dataclass(frozen=True)
class Scored:
    """What lm-eval found for one question: log-probabilities of the letters."""

    logprobs: tuple[float, ...]

    @property
    def chosen(self) -> str:
        return LETTERS[self.logprobs.index(max(self.logprobs))]


def write_task(folder: Path, items: Sequence[Item], shots: int) -> None:
    """A task of lm-eval with these prompts."""
    rows = [{"prompt": item.prompt(shots), "gold": LETTERS.index(str(item.question.answer))} for item in items]
    questions = folder / "questions.jsonl"
    questions.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    task = {
        "task": TASK,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(questions)}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{prompt}}",
        "doc_to_choice": list(LETTERS),
        "doc_to_target": "gold",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc"}],
    }
    (folder / f"{TASK}.yaml").write_text(yaml.safe_dump(task))


def lm_eval(python: Path, artifact: Path, tokenizer: Path, items: Sequence[Item], shots: int) -> list[Scored]:
    """Have lm-eval ask a server of the artifact; in the items' order."""
    with tempfile.TemporaryDirectory() as name, closing(ilmari_server(artifact)) as server:
        folder = Path(name)
        write_task(folder, items, shots)
        url = f"http://{server.address.host}:{server.address.port}/v1/completions"
        model_args = {"model": artifact.name, "base_url": url, "tokenizer": tokenizer, "num_concurrent": CONCURRENT}
        words = ",".join(f"{key}={value}" for key, value in model_args.items())
        command = [python, "-m", "lm_eval", "--model", "local-completions", "--model_args", words, "--tasks", TASK]
        command += ["--include_path", folder, "--log_samples", "--output_path", folder / "out"]
        environment = os.environ | OFFLINE | {"HF_HOME": str(folder / "home")}
        subprocess.run([str(word) for word in command], check=True, env=environment)
        (samples,) = (folder / "out").rglob(f"samples_{TASK}_*.jsonl")
        found = {row["doc_id"]: row["filtered_resps"] for row in map(json.loads, samples.open())}
    return [Scored(tuple(float(logprob) for logprob, _ in found[index])) for index in range(len(items))]


def built_in(artifact: Path, items: Sequence[Item]) -> list[Answer]:
    """The same questions by `ilmari eval ceval`'s scorer."""
    with Journal(None, {}) as journal:
        return take(LLM(artifact, max_num_seqs=1), items, journal, lambda *_: None)


def compare(ours: Sequence[Answer], theirs: Sequence[Scored]) -> dict[str, Any]:
    """Scores, and where they differ."""
    pairs = list(zip(ours, theirs, strict=True))
    return {
        "questions": len(pairs),
        "accuracy": {
            "ilmari eval": sum(answer.correct for answer in ours) / len(pairs),
            "lm-eval": sum(answer.answer == scored.chosen for answer, scored in pairs) / len(pairs),
        },
        "same_answer": sum(answer.chosen == scored.chosen for answer, scored in pairs),
        "largest_difference_of_a_logprob": max(
            abs(one - other)
            for answer, scored in pairs
            for one, other in zip(answer.logprobs, scored.logprobs, strict=True)
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", type=Path, required=True, help="of the environment with lm-eval")
    parser.add_argument("--data", type=Path, required=True, help="ceval-exam.zip")
    parser.add_argument("--tokenizer", type=Path, required=True, metavar="DIR", help="the model's checkpoint")
    parser.add_argument("--model", type=Path, metavar="DIR", help="an artifact; the demo model by default")
    parser.add_argument("--cache", type=Path, default=cache.DEFAULT, help="where the demo model is, or is put")
    parser.add_argument("--shots", type=int, default=0, help="the demo model takes prompts of 1,024 tokens")
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    artifact = arguments.model or setup_demo.artifact(arguments.cache.resolve())
    items = choose(Exam.open(arguments.data), "val", (), arguments.shots, arguments.limit)
    ours = built_in(artifact, items)
    theirs = lm_eval(arguments.python, artifact, arguments.tokenizer, items, arguments.shots)
    result = {**provenance(), "model": artifact.name, "shots": arguments.shots, **compare(ours, theirs)}
    arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
