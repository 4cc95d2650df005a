"""`ilmari bench serve`: how fast a server answers, ours or any other that speaks OpenAI's API."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from ilmari.bench.serve.plan import GRIDS, ONE_POINT, Dataset, Endpoint, Grid, Settings
from ilmari.cli.options import JsonFlag
from ilmari.cli.output import print_json
from ilmari.errors import RequestError

BASE_URL = "http://127.0.0.1:8000"
PERCENTILES = "99"

Number = TypeVar("Number", int, float)


def serve_command(
    base_url: Annotated[
        str, typer.Option(metavar="URL", help="The server; its API is at URL/v1 if the URL names no version.")
    ] = BASE_URL,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which of its models; the only one by default.")
    ] = None,
    endpoint: Annotated[Endpoint, typer.Option(help="Chat or text completions.")] = Endpoint.CHAT,
    api_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="By default OPENAI_API_KEY, which others cannot see.")
    ] = None,
    grid: Annotated[
        Grid | None, typer.Option(help="Lists for what the next three options leave open: the recipe's benchmark.")
    ] = None,
    input_len: Annotated[
        str | None,
        typer.Option(
            "--input-len", "--random-input-len", metavar="N,N,...", help="Tokens of a prompt, template included."
        ),
    ] = None,
    output_len: Annotated[
        str | None, typer.Option("--output-len", "--random-output-len", metavar="N,N,...", help="Tokens of a reply.")
    ] = None,
    max_concurrency: Annotated[
        str | None, typer.Option(metavar="N,N,...", help="Clients, each of which waits for its reply and asks again.")
    ] = None,
    request_rate: Annotated[
        str | None,
        typer.Option(metavar="R,R,...", help="Requests a second instead, at random times, however many run."),
    ] = None,
    num_prompts: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Requests of a point; 5 for each client by default, 100 with a rate."),
    ] = None,
    num_warmups: Annotated[
        int, typer.Option(min=0, metavar="N", help="Requests before each point that do not count.")
    ] = 1,
    dataset_name: Annotated[
        Dataset, typer.Option(help="Random words, the same ones in every prompt, or prompts from a file.")
    ] = Dataset.RANDOM,
    dataset_path: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Your prompts, one a line, or a .jsonl; implies `custom`.")
    ] = None,
    ignore_eos: Annotated[bool, typer.Option(help="Replies have --output-len tokens, where the server can.")] = True,
    extra_body: Annotated[
        str | None, typer.Option(metavar="JSON", help="An object whose fields every request has too.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Draws prompts and times.")] = 0,
    goodput: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC:MS,...",
            help="What good replies keep to, of ttft, tpot and e2el: ttft:200,tpot:50.",
        ),
    ] = None,
    metric_percentiles: Annotated[
        str, typer.Option(metavar="P,P,...", help="Percentiles beside mean and median.")
    ] = PERCENTILES,
    result_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write JSON, CSV and a picture there; an interrupted grid goes on there."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Load a server and time its replies."""
    if request_rate is not None and max_concurrency is not None:
        raise RequestError("--request-rate and --max-concurrency exclude each other; give one of them.")
    custom = dataset_path is not None
    if custom != (dataset_name is Dataset.CUSTOM) and dataset_name is not Dataset.RANDOM:
        raise RequestError(f"--dataset-name {dataset_name} does not go with --dataset-path; give custom and a file.")
    if custom and input_len is not None:
        raise RequestError("--input-len is for random prompts; those of --dataset-path are as long as they are.")
    lists = GRIDS[grid] if grid else ONE_POINT

    import asyncio

    from ilmari.bench.serve.figures import parse_goodput
    from ilmari.bench.serve.prompts import PromptFile
    from ilmari.bench.serve.run import load_test
    from ilmari.cli.progress import progress
    from ilmari.settings import openai_api_key

    own_prompts = PromptFile.read(dataset_path) if dataset_path else None
    settings = Settings(
        base_url=base_url,
        endpoint=endpoint,
        model="",
        dataset_name=Dataset.CUSTOM if custom else dataset_name,
        dataset_sha256=own_prompts.sha256 if own_prompts else None,
        input_lens=(None,) if custom else _numbers("--input-len", input_len, int) or lists.input_lens,
        output_lens=_numbers("--output-len", output_len, int) or lists.output_lens,
        max_concurrencies=_numbers("--max-concurrency", max_concurrency, int) or lists.max_concurrencies,
        request_rates=_numbers("--request-rate", request_rate, float),
        num_prompts=num_prompts,
        num_warmups=num_warmups,
        seed=seed,
        ignore_eos=ignore_eos,
        percentiles=_percentiles(metric_percentiles),
        goodput=parse_goodput(goodput or ()),
        extra_body=_object("--extra-body", extra_body),
    )
    key = api_key or openai_api_key()
    with progress(live=False) as report:
        results = asyncio.run(load_test(settings, model, key, own_prompts, result_dir, report, _note))
    if result_dir:
        results.add_csv()
        _draw(results)
    if as_json:
        print_json(results.result)
    else:
        from ilmari.cli.bench.serve_output import print_result

        print_result(results.result)


def _note(sentence: str) -> None:
    print(sentence, file=sys.stderr)


def _draw(results: Any) -> None:
    from ilmari.bench.serve.plots import png_of
    from ilmari.bench.serve.results import PNG

    try:
        picture = png_of(results.result)
    except ImportError:
        _note("There is no picture, as matplotlib is missing: pip install 'ilmari[bench]', and give the command again.")
    else:
        results.write(PNG, picture)


def _numbers(option: str, text: str | None, kind: Callable[[str], Number]) -> tuple[Number, ...]:
    """Those of a list, all above 0; none without a text."""
    if text is None:
        return ()
    try:
        numbers = tuple(kind(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or not all(0 < number < math.inf for number in numbers):
        raise RequestError(f"{option} is {text!r}; expected numbers above 0 with commas between, such as 1,4,16.")
    return numbers


def _percentiles(text: str) -> tuple[float, ...]:
    percentiles = _numbers("--metric-percentiles", text, float)
    if max(percentiles) > 100:
        raise RequestError(f"--metric-percentiles is {text!r}; expected percentiles of at most 100, such as 50,90,99.")
    return percentiles


def _object(option: str, text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise RequestError(f'{option} is {text!r}; expected a JSON object, such as {{"top_p": 0.9}}.')
    return value
