"""Compares the score that evalscope gives a served model with the letters that its logits choose, on the same prompts.

    python -m benchmarks.evalscope_score --program VENV/bin/evalscope --data ceval-exam.zip [--limit 4] [--output FILE]

VENV has evalscope. It asks a server of C-Eval's questions, with prompts of its own; replies are held to the form that
they ask for, which a small model seldom keeps to by itself.
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
from zipfile import ZipFile

from benchmarks.peers import cache
from benchmarks.serving import setup_demo
from benchmarks.serving.servers import ilmari_server
from ilmari.bench.machine import provenance
from ilmari.datasets.ceval import LETTERS
from ilmari.engine.llm import LLM

RESULTS = Path(__file__).parent / "results" / "evalscope.json"
DATASET = "general_mcq"
FILES = "_val.csv"
SAID = "答案："
GENERATION = {
    "max_tokens": 16,
    "temperature": 0,
    "stream": True,
    "extra_body": {"structured_outputs": {"regex": f"{SAID}[{LETTERS}]"}},
}
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
CONCURRENT = 4


@dataclass(frozen=True)
class Asked:
    """A question as evalscope asked it, the right letter, and the one that it read in the reply ("" for none)."""

    prompt: str
    answer: str
    chosen: str


def unpack(data: Path, folder: Path) -> list[str]:
    """Put the exam's questions where evalscope looks for them; their subjects."""
    subjects = []
    with ZipFile(data) as archive:
        for member in archive.namelist():
            if member.endswith(FILES):
                subjects.append(Path(member).name.removesuffix(FILES))
                (folder / Path(member).name).write_bytes(archive.read(member))
    return sorted(subjects)


def evalscope(program: Path, artifact: Path, data: Path, limit: int) -> list[Asked]:
    """Have evalscope ask a server of the artifact the first `limit` questions of each subject."""
    with tempfile.TemporaryDirectory() as name, closing(ilmari_server(artifact)) as server:
        folder = Path(name)
        dataset = {DATASET: {"local_path": name, "subset_list": unpack(data, folder)}}
        url = f"http://{server.address.host}:{server.address.port}/v1"
        command = [program, "eval", "--model", artifact.name, "--api-url", url, "--api-key", "EMPTY"]
        command += ["--eval-type", "openai_api", "--datasets", DATASET, "--dataset-args", json.dumps(dataset)]
        command += ["--generation-config", json.dumps(GENERATION), "--eval-batch-size", CONCURRENT, "--limit", limit]
        command += ["--work-dir", folder / "out"]
        environment = os.environ | OFFLINE | {"HF_HOME": str(folder / "home")}
        environment.pop("PYTHONPATH", None)  # its packages are its environment's own
        subprocess.run([str(word) for word in command], check=True, env=environment)
        rows = [json.loads(line) for file in sorted(folder.glob("out/*/reviews/*/*.jsonl")) for line in file.open()]
    return [
        Asked(
            prompt=row["messages"][0]["content"],
            answer=row["target"][0],
            chosen=row["sample_score"]["score"]["extracted_prediction"],
        )
        for row in rows
    ]


def by_logits(artifact: Path, asked: Sequence[Asked]) -> list[str]:
    """The letter of each question that is the likeliest to follow what a reply begins with."""
    llm = LLM(artifact, max_num_seqs=1)
    replies = [llm.tokenizer.encode(SAID + letter, add_bos=False) for letter in LETTERS]
    (begun,) = {tuple(reply[:-1]) for reply in replies}
    ends = [reply[-1] for reply in replies]
    chosen = []
    for question in asked:
        prompt = llm.render([{"role": "user", "content": question.prompt}])
        (logits,) = llm.engine.logits([*prompt, *begun], last=1)
        chosen.append(LETTERS[int(logits[ends].argmax())])
    return chosen


def compare(asked: Sequence[Asked], ours: Sequence[str]) -> dict[str, Any]:
    """Scores, and how many answers are the same."""
    return {
        "questions": len(asked),
        "correct": {
            "evalscope": sum(question.chosen == question.answer for question in asked),
            "logits": sum(letter == question.answer for question, letter in zip(asked, ours, strict=True)),
        },
        "same_answer": sum(question.chosen == letter for question, letter in zip(asked, ours, strict=True)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", type=Path, required=True, help="evalscope")
    parser.add_argument("--data", type=Path, required=True, help="ceval-exam.zip")
    parser.add_argument("--model", type=Path, metavar="DIR", help="an artifact; the demo model by default")
    parser.add_argument("--cache", type=Path, default=cache.DEFAULT, help="where the demo model is, or is put")
    parser.add_argument("--limit", type=int, default=4, help="questions of each subject")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    artifact = arguments.model or setup_demo.artifact(arguments.cache.resolve())
    asked = evalscope(arguments.program, artifact, arguments.data, arguments.limit)
    ours = by_logits(artifact, asked)
    result = {**provenance(), "model": artifact.name, "generation": GENERATION, **compare(asked, ours)}
    arguments.output.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    print(json.dumps(result, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
