"""`ilmari eval perplexity`: how well a model predicts a text."""

from __future__ import annotations

from typing import Any

from ilmari.cli.eval.options import Output, TextFile, Tokens, Window
from ilmari.cli.options import ArtifactOption, Devices, Hosts, JsonFlag, Threads
from ilmari.cli.output import print_json, print_table


def perplexity_command(
    model: ArtifactOption,
    data: TextFile,
    window: Window = None,
    tokens: Tokens = None,
    output: Output = None,
    threads: Threads = None,
    devices: Devices = None,
    hosts: Hosts = None,
    as_json: JsonFlag = False,
) -> None:
    """Measure perplexity and bits per byte on a text."""
    from ilmari.settings import set_num_threads

    set_num_threads(threads)

    from ilmari.bench.machine import provenance
    from ilmari.cli.eval.result import job_of, model_fields, say_what_is_done
    from ilmari.cli.progress import progress
    from ilmari.engine.llm import LLM
    from ilmari.evaluation.corpus import Corpus, window_length
    from ilmari.evaluation.journal import Journal
    from ilmari.evaluation.perplexity import measure

    llm = LLM(model, max_num_seqs=1, devices=devices, hosts=hosts)
    length = window_length(window, [llm.manifest])
    corpus = Corpus.read(data, llm.tokenizer, length, tokens)
    job = job_of("perplexity", [llm.manifest], ids=corpus.sha256, window=length)
    with Journal(output, job) as journal:
        say_what_is_done(journal, "windows")
        with progress() as report:
            measured = measure(llm, corpus, journal, report)
        result = {
            **measured.fields(),
            "window": length,
            "data": str(data),
            **model_fields(llm.manifest),
            **provenance(),
        }
        journal.finish(result)
    if as_json:
        print_json(result)
    else:
        _print(result)


def _print(result: dict[str, Any]) -> None:
    print(f"{result['model']} on {result['data']}, windows of {result['window']:,} tokens")
    bits = result["bits_per_byte"]
    rows = [
        {"what": "perplexity", "value": f"{result['perplexity']:.3f}"},
        {"what": "bits per byte", "value": "" if bits is None else f"{bits:.4f}"},
        {"what": "tokens scored", "value": f"{result['scored']:,}"},
        {"what": "tokens/s", "value": result["tok_s"]},
    ]
    print_table((("", "what"), ("", "value")), rows)
