"""What each scheme costs in accuracy: the demo model on WikiText-2 and C-Eval, everything by the real commands.

    python benchmarks/accuracy.py --data DIR [--work DIR] [--only NAME ...] [--tokens 20000] [--questions 200]

DIR holds wikitext-2/test.txt, ceval-exam.zip, c4_en_sample.jsonl and alpaca_5000.json. The work folder keeps artifacts
and results, and an interrupted run goes on where it was. Writes benchmarks/results/accuracy.json, and accuracy.md for
docs/accuracy.md; with --only, of those schemes alone.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ilmari.bench.machine import provenance
from ilmari.demo.download import fetch_weights
from ilmari.demo.gguf_checkpoint import write_checkpoint
from ilmari.demo.recipe import write_recipe

RESULTS = Path(__file__).parent / "results"
CALIBRATION = {"nsamples": 64, "seqlen": 512}
FILES = {"c4": "c4_en_sample.jsonl", "ceval": "ceval-exam.zip", "alpaca": "alpaca_5000.json"}


@dataclass(frozen=True)
class Variant:
    """What is compiled: `backend.dtype`, `quantize.type` and the calibration set; without one GPTQ writes its own."""

    name: str
    dtype: str
    type: str | None = None
    calibration: str | None = None

    def settings(self, data: Path) -> dict[str, Any]:
        """Keys of the demo's recipe to replace."""
        keys: dict[str, Any] = {"name": self.name}
        if self.type:
            keys["frontend.quantize.type"] = self.type
        if self.calibration:
            dataset = {"name": self.calibration, "path": data / FILES[self.calibration], **CALIBRATION}
            keys |= {f"dataset.{key}": value for key, value in dataset.items()}
        return keys


VARIANTS = (
    Variant("fp16", "fp16"),
    Variant("w8a16", "int8", "w8a16"),
    Variant("w8a16_gptq-c4", "int8", "w8a16_gptq", "c4"),
    Variant("w8a16_gptq-ceval", "int8", "w8a16_gptq", "ceval"),
    Variant("w8a16_gptq-alpaca", "int8", "w8a16_gptq", "alpaca"),
    Variant("w8a16_gptq-own", "int8", "w8a16_gptq"),
    Variant("w8a8", "int8", "w8a8"),
    Variant("w8a8_gptq-c4", "int8", "w8a8_gptq", "c4"),
    Variant("w16kv8", "fp16", "w16kv8"),
    Variant("w8a16_gptq_kv8-c4", "int8", "w8a16_gptq_kv8", "c4"),
)


def ilmari(*words: object) -> None:
    """Run a command, which shows its own progress and says what is wrong."""
    command = [sys.executable, "-m", "ilmari", *map(str, words)]
    if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode:
        sys.exit(f"this failed: {' '.join(command)}")


def compiled(variant: Variant, checkpoint: Path, data: Path, work: Path) -> Path:
    """The variant's artifact, compiled if it is not there yet."""
    artifact = work / "recipes" / variant.name
    if not artifact.exists():
        recipe = write_recipe(work / "recipes", checkpoint, variant.dtype)
        settings = [word for key, value in variant.settings(data).items() for word in ("--set", f"{key}={value}")]
        ilmari("compile", recipe, *settings)
    return artifact


def measured(verb: str, variant: Variant, artifact: Path, work: Path, *options: object) -> dict[str, Any]:
    """What a verb of `ilmari eval` finds."""
    output = work / f"{variant.name}-{verb}.json"
    ilmari("eval", verb, "--model", artifact, "--output", output, *options)
    found: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    return found


def row(variant: Variant, perplexity: dict[str, Any], exam: dict[str, Any], first: float) -> dict[str, Any]:
    """One line of the table."""
    return {
        "name": variant.name,
        "type": variant.type or variant.dtype,
        "calibration": variant.calibration or ("its own text" if "gptq" in variant.name else ""),
        "perplexity": perplexity["perplexity"],
        "increase": perplexity["perplexity"] / first - 1,
        "bits_per_byte": perplexity["bits_per_byte"],
        "scored": perplexity["scored"],
        "ceval_correct": exam["correct"],
        "ceval_questions": exam["questions"],
        "ceval_shortened": exam["shortened"],
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown."""
    first = rows[0]
    lines = [
        f"| | calibrated on | perplexity | against {first['name']} | C-Eval, of {first['ceval_questions']} |",
        "|---|---|---|---|---|",
        *(
            f"| `{each['type']}` | {each['calibration']} | {each['perplexity']:.3f} | {each['increase']:+.2%} | "
            f"{each['ceval_correct']} |"
            for each in rows
        ),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("accuracy-work"))
    parser.add_argument("--only", action="append", choices=[variant.name for variant in VARIANTS])
    parser.add_argument("--tokens", type=int, default=20_000)
    parser.add_argument("--questions", type=int, default=200)
    arguments = parser.parse_args()
    data, work = arguments.data.absolute(), arguments.work.absolute()

    checkpoint = work / "checkpoint"
    if not checkpoint.exists():
        write_checkpoint(fetch_weights(lambda *_: None), checkpoint, lambda *_: None)
    text = ("--data", data / "wikitext-2" / "test.txt", "--tokens", arguments.tokens)
    exam = ("--data", data / "ceval-exam.zip", "--split", "val", "--shots", 1, "--limit", arguments.questions)
    rows: list[dict[str, Any]] = []
    for variant in VARIANTS:
        if arguments.only and variant.name not in arguments.only:
            continue
        print(variant.name, file=sys.stderr, flush=True)
        artifact = compiled(variant, checkpoint, data, work)
        perplexity = measured("perplexity", variant, artifact, work, *text)
        first = rows[0]["perplexity"] if rows else perplexity["perplexity"]
        rows.append(row(variant, perplexity, measured("ceval", variant, artifact, work, *exam), first))
        print(json.dumps(rows[-1]), flush=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "accuracy.json").write_text(json.dumps({**provenance(), "rows": rows}, indent=2) + "\n")
    (RESULTS / "accuracy.md").write_text(table(rows))


if __name__ == "__main__":
    main()
