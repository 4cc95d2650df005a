"""A server's whole life: engines started, a socket opened, requests answered, and all of it ended in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from ilmari.engine.client import DEFAULT_PLACEMENT, EngineClient, EngineDead
from ilmari.engine.kv_cache import bytes_for
from ilmari.engine.options import MAX_NUM_SEQS, EngineOptions, Placement
from ilmari.errors import ArtifactError, ConfigError, GroupError
from ilmari.kernels.scheme import SCHEMES
from ilmari.model.chat import ChatTemplate
from ilmari.server.admission import Admission
from ilmari.server.app import create_app
from ilmari.server.listening import ENDINGS, Server, bound, is_loopback, url_of, uvicorn_config
from ilmari.server.options import ServerOptions
from ilmari.server.served_model import Models, ServedModel


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """One model to serve; no names: its artifact's. None and "auto" are what the artifact says.

    chat_template: a file to use in place of the artifact's. placement: of its ranks.
    """

    folder: Path
    names: tuple[str, ...] = ()
    max_model_len: int | None = None
    kv_cache_dtype: str = "auto"
    chat_template: Path | None = None
    placement: Placement = DEFAULT_PLACEMENT


def serve(options: ServerOptions, models: Sequence[ModelOptions], engine: EngineOptions) -> None:
    """Serve until a signal ends it: the first lets running replies finish, the second does not.

    Raises:
        ArtifactError, ConfigError, RequestError, TargetError: something that was asked for cannot be had.
        GroupError: a rank of the MPI world that this process belongs to is lost.
    """
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    with contextlib.suppress(asyncio.CancelledError), _listening(options) as listener:
        asyncio.run(_serve(options, models, engine, listener))


async def _serve(
    options: ServerOptions, models: Sequence[ModelOptions], engine: EngineOptions, listener: socket.socket
) -> None:
    task = asyncio.current_task()
    assert task is not None
    for ending in ENDINGS:
        asyncio.get_running_loop().add_signal_handler(ending, task.cancel)
    served: dict[str, ServedModel] = {}
    for model in models:
        for name, entry in _served(model, engine).items():
            if name in served:
                raise ConfigError(f"Two models have the name {name!r}; name them with --model NAME=DIR.")
            served[name] = entry
    most = (engine.max_num_seqs or MAX_NUM_SEQS) * len(models) + options.max_num_queued_reqs
    app = create_app(options, Models(served), most)
    config = uvicorn_config(options, app)
    ready = f"serving {', '.join(served)} at {url_of(options, listener)}"
    clients = list({id(model.engine): model.engine for model in served.values()}.values())
    try:
        server = _Server(config, app.state.service.admission, ready)
        for model, client in zip(models, clients, strict=True):
            await _start(model, client, server.end)
        await server.serve([listener])
        for client in clients:
            if client.failure:
                raise GroupError(client.failure)
    finally:
        app.state.service.threads.close()
        for client in clients:
            await client.close()


async def _start(model: ModelOptions, client: EngineClient, given_up: Callable[[], None]) -> None:
    try:
        await client.start(given_up)
    except (EngineDead, OSError) as error:
        raise ArtifactError(f"{model.folder} cannot be served: {error}") from error


class _Server(Server):
    """Lets nobody new in once it is to end."""

    def __init__(self, config: uvicorn.Config, admission: Admission, ready: str) -> None:
        super().__init__(config, ready)
        self._admission = admission

    def ending(self) -> None:
        self._admission.draining = True


def _served(model: ModelOptions, engine: EngineOptions) -> dict[str, ServedModel]:
    client = EngineClient(model.folder, engine, model.placement)
    manifest = client.manifest
    dtype = SCHEMES[manifest.scheme].kv_cache
    if model.kv_cache_dtype not in ("auto", dtype):
        raise ConfigError(
            f"--kv-cache-dtype is {model.kv_cache_dtype} and {model.folder} was compiled for {dtype}; leave the option "
            "out, or compile the model with another quantize.type."
        )
    if model.max_model_len is not None and not 2 <= model.max_model_len <= manifest.max_seq_len:
        raise ConfigError(
            f"--max-model-len is {model.max_model_len} and {model.folder} was compiled for {manifest.max_seq_len} "
            "tokens; give 2 to that many, or compile the model with a longer frontend.shape.input_ids."
        )
    max_model_len = model.max_model_len or manifest.max_seq_len
    least = bytes_for(manifest, max_model_len)
    if engine.kv_cache_memory_bytes is not None and engine.kv_cache_memory_bytes < least:
        raise ConfigError(
            f"--kv-cache-memory-bytes is {engine.kv_cache_memory_bytes} and one sequence of {max_model_len} tokens of "
            f"{model.folder} takes {least}; give at least that, or a smaller --max-model-len."
        )
    if model.chat_template is not None:
        client.chat_template = _read_template(model.chat_template, client)
    names = model.names or (manifest.name,)
    entry = ServedModel(names[0], client, max_model_len)
    return dict.fromkeys(names, entry)


def _read_template(path: Path, client: EngineClient) -> ChatTemplate:
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--chat-template {path} cannot be read ({error}); give a Jinja template.") from error
    return ChatTemplate(source, client.tokenizer.bos_token, client.tokenizer.eos_token, path)


@contextlib.contextmanager
def _listening(options: ServerOptions) -> Iterator[socket.socket]:
    """A bound socket, and a warning if it should not be as open as it is."""
    with bound(options) as listener:
        if not options.api_keys and not is_loopback(listener):
            print(f"warning: {options.host} can be reached from outside and there is no --api-key", file=sys.stderr)
        yield listener
