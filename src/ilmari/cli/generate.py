"""`ilmari generate`: one prompt in, its continuation out."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ilmari.cli.options import (
    DEFAULTS,
    ArtifactOption,
    Devices,
    Hosts,
    JsonFlag,
    MinP,
    RepetitionPenalty,
    Seed,
    Temperature,
    Threads,
    TopK,
    TopP,
)
from ilmari.engine.sampling_params import SamplingParams
from ilmari.errors import RequestError

if TYPE_CHECKING:
    from ilmari.engine.output import RequestOutput
    from ilmari.model.tokenizer import Tokenizer

MAX_TOKENS = 128


def generate_command(
    model: ArtifactOption,
    prompt: Annotated[str | None, typer.Option(metavar="TEXT", help="The text to continue.")] = None,
    prompt_token_ids: Annotated[
        str | None, typer.Option(metavar="ID,ID,...", help="The token ids to continue, instead of a text.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="The most tokens to write.")] = MAX_TOKENS,
    temperature: Temperature = DEFAULTS.temperature,
    top_k: TopK = DEFAULTS.top_k,
    top_p: TopP = DEFAULTS.top_p,
    min_p: MinP = DEFAULTS.min_p,
    repetition_penalty: RepetitionPenalty = DEFAULTS.repetition_penalty,
    seed: Seed = DEFAULTS.seed,
    stop: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="End where this text would come; may be repeated.")
    ] = None,
    stop_token_ids: Annotated[
        str | None, typer.Option(metavar="ID,ID,...", help="End at any of these tokens, as at the model's own.")
    ] = None,
    ignore_eos: Annotated[bool, typer.Option("--ignore-eos", help="Write on after the model's own end token.")] = False,
    logprobs: Annotated[
        int | None, typer.Option(help="With --json: report this many of the most probable tokens at each position.")
    ] = DEFAULTS.logprobs,
    threads: Threads = None,
    devices: Devices = None,
    hosts: Hosts = None,
    as_json: JsonFlag = False,
) -> None:
    """Continue a text, and write what comes to stdout as it comes."""
    request = _one_prompt(prompt, prompt_token_ids)
    if logprobs is not None and not as_json:
        raise RequestError("--logprobs is shown by --json alone; give both, or neither.")
    params = SamplingParams(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        max_tokens=max_tokens,
        seed=seed,
        stop=stop,
        stop_token_ids=_token_ids("--stop-token-ids", stop_token_ids) if stop_token_ids is not None else None,
        ignore_eos=ignore_eos,
        logprobs=logprobs,
    )

    from ilmari.artifact.artifact import TOKENIZER
    from ilmari.cli.reply import load_model, remark, write_reply
    from ilmari.model.chat import CHAT_TEMPLATE_FILE

    llm = load_model(model, threads, devices, hosts)
    if prompt is not None and (model / TOKENIZER / CHAT_TEMPLATE_FILE).exists():
        remark("this model has a chat template: `ilmari chat` applies it")
    if as_json:
        result = _json_object(llm.generate([request], params)[0], llm.tokenizer)
        print(json.dumps(result, ensure_ascii=sys.stdout.encoding.lower() != "utf-8"))
    else:
        remark(write_reply(llm.stream(request, params)).speed)


def _one_prompt(text: str | None, token_ids: str | None) -> str | list[int]:
    if text is not None and token_ids is None:
        return text
    if token_ids is not None and text is None:
        return _token_ids("--prompt-token-ids", token_ids)
    found = "neither" if text is None else "both"
    raise RequestError(f"{found} of --prompt and --prompt-token-ids found; give exactly one of them.")


def _token_ids(option: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")] if text.strip() else []
    except ValueError as error:
        raise RequestError(f"{option} is {text!r}; expected token ids with commas between, such as 1,2,3.") from error


def _json_object(request: RequestOutput, tokenizer: Tokenizer) -> dict[str, Any]:
    output = request.outputs[0]
    prompt_tokens, completion_tokens = len(request.prompt_token_ids), len(output.token_ids)
    result: dict[str, Any] = {
        "text": output.text,
        "token_ids": output.token_ids,
        "prompt_token_ids": request.prompt_token_ids,
        "finish_reason": output.finish_reason,
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        },
    }
    if output.logprobs is not None:
        result["logprobs"] = [
            [{"token": tokenizer.decode([top.token_id], skip_special_tokens=False), **asdict(top)} for top in position]
            for position in output.logprobs
        ]
    return result
