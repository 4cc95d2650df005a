"""`ilmari serve`: models behind OpenAI's API."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ilmari.cli.options import Devices, Hosts, Threads
from ilmari.engine.sampling_params import MAX_LOGPROBS
from ilmari.errors import ConfigError
from ilmari.server.options import (
    DRAIN_TIMEOUT_S,
    HOST,
    MAX_NUM_QUEUED_REQS,
    PORT,
    REQUEST_TIMEOUT_S,
    ServerOptions,
    check_api_keys,
    read_api_keys,
)
from ilmari.settings import mpi_world, set_num_threads


class KvCacheDtype(StrEnum):
    """What an artifact's cache may be."""

    AUTO = "auto"
    FLOAT16 = "float16"
    INT8 = "int8"


def serve_command(
    model: Annotated[
        list[str],
        typer.Option(metavar="[NAME=]DIR", help="An artifact, and what requests call it; may be repeated."),
    ],
    served_model_name: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A name of the only model; may be repeated.")
    ] = None,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="The address to listen at.")] = HOST,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen at; 0 takes a free one.")] = PORT,
    root_path: Annotated[str, typer.Option(metavar="PATH", help="Where a proxy has put this server.")] = "",
    api_key: Annotated[
        list[str] | None, typer.Option(metavar="KEY", help="A key that requests must bring; may be repeated.")
    ] = None,
    api_key_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keys, one a line; others cannot see it as they see options.")
    ] = None,
    allowed_origins: Annotated[
        list[str] | None,
        typer.Option(metavar="ORIGIN", help="A site whose pages may ask, or * for all; may be repeated."),
    ] = None,
    ssl_keyfile: Annotated[Path | None, typer.Option(metavar="FILE", help="The key of the certificate, PEM.")] = None,
    ssl_certfile: Annotated[Path | None, typer.Option(metavar="FILE", help="The certificate for TLS, PEM.")] = None,
    max_model_len: Annotated[
        int | None, typer.Option(help="The most tokens of prompt and reply.", show_default="as compiled")
    ] = None,
    max_num_seqs: Annotated[int | None, typer.Option(min=1, help="The most replies in one step.")] = None,
    max_num_batched_tokens: Annotated[int | None, typer.Option(min=1, help="The most tokens in one step.")] = None,
    kv_cache_memory_bytes: Annotated[
        int | None,
        typer.Option(min=1, help="Memory of each model's KV cache, on each rank.", show_default="by --max-num-seqs"),
    ] = None,
    max_num_queued_reqs: Annotated[
        int, typer.Option(min=0, help="The most replies that wait beyond those; then 429.")
    ] = MAX_NUM_QUEUED_REQS,
    enable_prefix_caching: Annotated[bool, typer.Option(help="Compute what prompts begin with in common once.")] = True,
    num_speculative_tokens: Annotated[
        int | None,
        typer.Option(min=0, help="The most tokens to guess from a reply's own text in a step; 0 guesses none."),
    ] = None,
    kv_cache_dtype: Annotated[
        KvCacheDtype, typer.Option(help="Must be what the artifact was compiled for.")
    ] = KvCacheDtype.AUTO,
    chat_template: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A Jinja template in place of the model's own.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Draws the seeds of requests that bring none.")] = None,
    max_logprobs: Annotated[
        int, typer.Option(min=0, max=MAX_LOGPROBS, help="The most logprobs to report.")
    ] = MAX_LOGPROBS,
    request_timeout: Annotated[
        float, typer.Option(min=0.001, help="Seconds that a reply may take, the wait included.")
    ] = REQUEST_TIMEOUT_S,
    drain_timeout: Annotated[
        int, typer.Option(min=0, help="Seconds that running replies have at the end.")
    ] = DRAIN_TIMEOUT_S,
    enable_request_id_headers: Annotated[
        bool, typer.Option("--enable-request-id-headers", help="Answer with X-Request-Id.")
    ] = False,
    threads: Threads = None,
    devices: Devices = None,
    hosts: Hosts = None,
) -> None:
    """Serve models over OpenAI's API."""
    names = served_model_name or []
    if names and (len(model) > 1 or _split(model[0])[0]):
        raise ConfigError("--served-model-name is for one --model DIR; name several with --model NAME=DIR.")
    set_num_threads(threads)
    if mpi_world() and len(model) > 1:
        raise ConfigError("MPI has started the ranks of one model; give one --model DIR, or start the command alone.")

    from ilmari.artifact.artifact import Artifact
    from ilmari.engine.options import EngineOptions, Placement
    from ilmari.engine.ranks import follow_rank0
    from ilmari.server.serve import ModelOptions, serve

    if mpi_world():
        follow_rank0(Artifact.open(_split(model[0])[1]).manifest.tp)

    keys = check_api_keys((*(api_key or ()), *(read_api_keys(api_key_file) if api_key_file else ())))
    options = ServerOptions(
        host=host,
        port=port,
        root_path=root_path,
        api_keys=keys,
        allowed_origins=tuple(allowed_origins or ()),
        ssl_keyfile=ssl_keyfile,
        ssl_certfile=ssl_certfile,
        seed=seed,
        max_logprobs=max_logprobs,
        max_num_queued_reqs=max_num_queued_reqs,
        enable_request_id_headers=enable_request_id_headers,
        request_timeout=request_timeout,
        drain_timeout=drain_timeout,
    )
    models = [
        ModelOptions(
            folder=folder,
            names=(name,) if name else tuple(names),
            max_model_len=max_model_len,
            kv_cache_dtype=kv_cache_dtype.value,
            chat_template=chat_template,
            placement=Placement(devices=devices, hosts=hosts),
        )
        for name, folder in map(_split, model)
    ]
    engine = EngineOptions(
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
        kv_cache_memory_bytes=kv_cache_memory_bytes,
        enable_prefix_caching=enable_prefix_caching,
        num_speculative_tokens=num_speculative_tokens,
    )
    serve(options, models, engine)


def _split(model: str) -> tuple[str | None, Path]:
    """NAME=DIR, or DIR alone; a folder may have an equals sign in its own name."""
    name, equals, folder = model.partition("=")
    if equals and "/" not in name and not Path(model).exists():
        return name, Path(folder)
    return None, Path(model)
