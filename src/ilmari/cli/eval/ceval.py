"""`ilmari eval ceval`: how many questions of C-Eval or CMMLU a model answers rightly."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ilmari.cli.eval.options import Output
from ilmari.cli.options import ArtifactOption, Devices, Hosts, JsonFlag, Threads
from ilmari.cli.output import print_json, print_table

SHOTS = 5


def ceval_command(
    model: ArtifactOption,
    data: Annotated[
        Path, typer.Option(metavar="PATH", help="ceval-exam.zip, CMMLU's zip, or a folder of their CSV files.")
    ],
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="The questions to ask: by default val, of CMMLU test.")
    ] = None,
    shots: Annotated[int, typer.Option(min=0, metavar="N", help="Examples before each question, from dev.")] = SHOTS,
    subject: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Ask only this subject, such as law; may be repeated.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Ask N questions at most, from all subjects in turn.")
    ] = None,
    output: Output = None,
    threads: Threads = None,
    devices: Devices = None,
    hosts: Hosts = None,
    as_json: JsonFlag = False,
) -> None:
    """Answer C-Eval or CMMLU, by the likeliest letters."""
    from ilmari.settings import set_num_threads

    set_num_threads(threads)

    from dataclasses import asdict

    from ilmari.bench.machine import provenance
    from ilmari.cli.eval.result import job_of, model_fields, say_what_is_done
    from ilmari.cli.progress import progress
    from ilmari.datasets.ceval import Exam
    from ilmari.engine.llm import LLM
    from ilmari.evaluation.exam import choose, take
    from ilmari.evaluation.exam_prompt import digest
    from ilmari.evaluation.exam_score import score
    from ilmari.evaluation.journal import Journal

    exam = Exam.open(data)
    split = split or exam.measured
    items = choose(exam, split, subject or (), shots, limit)
    llm = LLM(model, max_num_seqs=1, devices=devices, hosts=hosts)
    with Journal(output, job_of("ceval", [llm.manifest], prompts=digest(items))) as journal:
        say_what_is_done(journal, "questions")
        with progress() as report:
            answers = take(llm, items, journal, report)
        result = {
            "exam": exam.name,
            "split": split,
            "shots": shots,
            **asdict(score(answers, {item.subject.key: item.subject for item in items})),
            "shortened": sum(answer.shots < shots for answer in answers),
            "cut": sum(answer.cut for answer in answers),
            "tok_s": sum(answer.tokens for answer in answers) / sum(answer.seconds for answer in answers),
            **model_fields(llm.manifest),
            **provenance(),
            "answers": [asdict(answer) for answer in answers],
        }
        journal.finish(result)
    if as_json:
        print_json(result)
    else:
        _print(result)


def _print(result: dict[str, Any]) -> None:
    print(f"{result['model']} on {result['exam']}, {result['split']}, {result['shots']} shots\n")
    rows = [
        {**row, "accuracy": f"{row['accuracy']:.1%}", "of": f"{row['correct']}/{row['questions']}"}
        for row in result["subjects"]
    ]
    print_table((("subject", "subject"), ("category", "category"), ("correct", "of"), ("accuracy", "accuracy")), rows)
    print()
    means = [*result["categories"].items(), ("average of the subjects", result["average"])]
    rows = [{"what": name, "accuracy": f"{accuracy:.1%}"} for name, accuracy in means]
    rows.append({"what": "all questions", "accuracy": f"{result['accuracy']:.1%}"})
    print_table((("", "what"), ("accuracy", "accuracy")), rows)
    if result["shortened"]:
        print(f"\n{result['shortened']} prompts were too long for all shots and got fewer; {result['cut']} were cut.")
