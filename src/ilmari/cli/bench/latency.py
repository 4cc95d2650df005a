"""`ilmari bench latency`: how long a model takes to answer, beside what the machine allows."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ilmari.cli.bench.output import REACHED, Rounds, threads_of
from ilmari.cli.options import ArtifactOption, Devices, Hosts, JsonFlag, Threads
from ilmari.cli.output import print_json, print_table

INPUT_LEN = 512
OUTPUT_LEN = 32
ROUNDS = 5

FIGURES = {
    "ttft_ms": "time to first token, ms",
    "tpot_ms": "time per output token, ms",
    "prefill_tok_s": "prefill, tokens/s",
    "decode_tok_s": "decode, tokens/s",
    "prefill_fraction": "prefill, of the ceiling",
    "decode_fraction": "decode, of the ceiling",
    "all_reduce_ms": "sums over ranks of a decode step, ms",
    "all_reduce_fraction": "sums over ranks, of decode",
    "prefill_all_reduce_fraction": "sums over ranks, of prefill",
    "read_gb_s": "read bandwidth, GB/s",
    "int8_gmac_s": "int8 peak, 10^9 multiply-adds/s",
    "int16_gmac_s": "int16 peak, 10^9 multiply-adds/s",
    "bf16_gmac_s": "bf16 peak, 10^9 multiply-adds/s",
    "fp32_gmac_s": "fp32 peak, 10^9 multiply-adds/s",
}


def latency_command(
    model: ArtifactOption,
    input_len: Annotated[int, typer.Option(min=1, metavar="N", help="Tokens of each prompt.")] = INPUT_LEN,
    output_len: Annotated[int, typer.Option(min=2, metavar="N", help="Tokens of each answer.")] = OUTPUT_LEN,
    batch: Annotated[int, typer.Option(min=1, metavar="N", help="Prompts that arrive together.")] = 1,
    rounds: Rounds = ROUNDS,
    profile: Annotated[bool, typer.Option("--profile", help="Show where the time goes, kernel by kernel.")] = False,
    threads: Threads = None,
    devices: Devices = None,
    hosts: Hosts = None,
    as_json: JsonFlag = False,
) -> None:
    """Time prompts and answers beside the machine's ceilings."""
    from ilmari.settings import mpi_world, set_num_threads

    set_num_threads(threads)

    from ilmari.artifact.artifact import Artifact
    from ilmari.bench.latency import measure
    from ilmari.bench.machine import provenance
    from ilmari.bench.profile import profile as profile_of
    from ilmari.bench.workload import Workload
    from ilmari.cli.progress import progress
    from ilmari.engine.launcher import run_again_as_ranks
    from ilmari.engine.options import Placement
    from ilmari.engine.ranks import form

    ranks = Artifact.open(model).manifest.tp
    Placement(devices=devices, hosts=hosts).check(ranks)
    if ranks > 1 and not mpi_world():
        run_again_as_ranks(ranks, hosts)
    group = form(ranks, devices)
    artifact = Artifact.load(model, group.rank)
    workload = Workload(batch, input_len, output_len)
    with progress(live=False) as report:
        measured = measure(artifact, workload, rounds, report, profile=profile, group=group)
    result = {
        **measured.fields(best=True),
        "median": measured.fields(best=False),
        "batch": batch,
        "input_len": input_len,
        "output_len": output_len,
        "rounds": rounds,
        "model": artifact.manifest.name,
        "tp": ranks,
        **provenance(),
    }
    if profile:
        result["profile"] = profile_of(measured.plan, measured.profiled, measured.rates(max))
    if not as_json:
        _print_figures(result)
    print_json(result)


def _print_figures(result: dict[str, Any]) -> None:
    print(
        f"{result['model']} on {result['cpu']}, {threads_of(result)}: {result['batch']} x "
        f"{result['input_len']} tokens in, {result['output_len']} out, {result['rounds']} rounds\n"
    )
    rows = [
        {"what": words, "best": result[key], "median": result["median"][key]}
        for key, words in FIGURES.items()
        if result[key] is not None
    ]
    print_table((("", "what"), ("best", "best"), ("median", "median")), rows)
    for phase, its in result.get("profile", {}).items():
        print(f"\na {phase} step: {its['step_ms']:.2f} ms\n")
        columns = (("kernel", "kernel"), ("calls", "calls"), ("ms", "ms"), ("share", "share"), *REACHED)
        print_table(columns, its["kernels"])
    print()
