"""`ilmari eval compare`: models beside a first one, such as one checkpoint in several precisions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ilmari.cli.eval.options import Output, TextFile, Tokens, Window
from ilmari.cli.options import Devices, Hosts, JsonFlag, Threads
from ilmari.cli.output import print_json, print_table
from ilmari.errors import RequestError


def compare_command(
    models: Annotated[
        list[Path], typer.Argument(metavar="DIR DIR...", help="Artifacts; the others are compared with the first.")
    ],
    data: TextFile,
    window: Window = None,
    tokens: Tokens = None,
    output: Output = None,
    threads: Threads = None,
    devices: Devices = None,
    hosts: Hosts = None,
    as_json: JsonFlag = False,
) -> None:
    """Compare models with a first one, token by token."""
    if len(models) < 2:
        raise RequestError(f"There is only {models[0]} to compare; name two artifacts or more.")

    from ilmari.settings import set_num_threads

    set_num_threads(threads)

    from dataclasses import asdict

    from ilmari.bench.machine import provenance
    from ilmari.cli.eval.result import job_of, model_fields, say_what_is_done
    from ilmari.cli.progress import progress
    from ilmari.engine.llm import LLM
    from ilmari.evaluation.comparison import check_vocabularies, compare
    from ilmari.evaluation.corpus import Corpus, window_length
    from ilmari.evaluation.journal import Journal

    llms = [LLM(model, max_num_seqs=1, devices=devices, hosts=hosts) for model in models]
    check_vocabularies([llm.tokenizer for llm in llms], models)
    manifests = [llm.manifest for llm in llms]
    length = window_length(window, manifests)
    corpus = Corpus.read(data, llms[0].tokenizer, length, tokens)
    with Journal(output, job_of("compare", manifests, ids=corpus.sha256, window=length)) as journal:
        say_what_is_done(journal, "windows")
        with progress() as report:
            found = compare(llms, corpus, journal, report)
        result = {
            "models": [
                model_fields(manifest) | asdict(likeness)
                for manifest, likeness in zip(manifests, found.models, strict=True)
            ],
            "scored": found.scored,
            "window": length,
            "data": str(data),
            **provenance(),
        }
        journal.finish(result)
    if as_json:
        print_json(result)
    else:
        _print(result)


def _print(result: dict[str, Any]) -> None:
    first = result["models"][0]["model"]
    print(f"{result['scored']:,} tokens of {result['data']}, windows of {result['window']:,}; against {first}\n")
    rows = [
        {
            "model": row["model"],
            "scheme": row["scheme"],
            "perplexity": f"{row['perplexity']:.3f}",
            "increase": f"{row['increase']:+.2%}",
            "agreement": f"{row['agreement']:.2%}",
            "kl_mean": f"{row['kl_mean']:.2e}",
            "kl_p99": f"{row['kl_p99']:.2e}",
        }
        for row in result["models"]
    ]
    headings = {
        "model": "model",
        "scheme": "scheme",
        "perplexity": "perplexity",
        "increase": "change",
        "agreement": "same top token",
        "kl_mean": "KL, mean",
        "kl_p99": "KL, 99%",
    }
    print_table([(heading, key) for key, heading in headings.items()], rows)
