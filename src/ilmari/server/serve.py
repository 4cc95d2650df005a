"""A server's whole life: engines started, a socket opened, requests answered, and all of it ended in order."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import signal
import socket
import ssl
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from ilmari.engine.client import DEFAULT_PLACEMENT, EngineClient, EngineDead
from ilmari.engine.options import MAX_NUM_SEQS, EngineOptions, Placement
from ilmari.errors import ArtifactError, ConfigError
from ilmari.kernels.scheme import SCHEMES
from ilmari.model.chat import ChatTemplate
from ilmari.server.admission import Admission
from ilmari.server.app import create_app
from ilmari.server.http_protocol import BoundedHttpProtocol
from ilmari.server.options import ServerOptions
from ilmari.server.served_model import Models, ServedModel

_ENDINGS = (signal.SIGTERM, signal.SIGINT)


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
    """
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    with contextlib.suppress(asyncio.CancelledError), _listening(options) as listener:
        asyncio.run(_serve(options, models, engine, listener))


async def _serve(
    options: ServerOptions, models: Sequence[ModelOptions], engine: EngineOptions, listener: socket.socket
) -> None:
    task = asyncio.current_task()
    assert task is not None
    for ending in _ENDINGS:
        asyncio.get_running_loop().add_signal_handler(ending, task.cancel)
    served: dict[str, ServedModel] = {}
    for model in models:
        for name, entry in _served(model, engine).items():
            if name in served:
                raise ConfigError(f"Two models have the name {name!r}; name them with --model NAME=DIR.")
            served[name] = entry
    most = (engine.max_num_seqs or MAX_NUM_SEQS) * len(models) + options.max_num_queued_reqs
    app = create_app(options, Models(served), most)
    config = _uvicorn_config(options, app)
    clients = list({id(model.engine): model.engine for model in served.values()}.values())
    try:
        for model, client in zip(models, clients, strict=True):
            await _start(model, client)
        await _Server(config, app.state.service.admission, _ready_line(options, listener, served)).serve([listener])
    finally:
        app.state.service.threads.close()
        for client in clients:
            await client.close()


async def _start(model: ModelOptions, client: EngineClient) -> None:
    try:
        await client.start()
    except (EngineDead, OSError) as error:
        raise ArtifactError(f"{model.folder} cannot be served: {error}") from error


class _Server(uvicorn.Server):
    """Says when it is ready, and drains at the first signal."""

    def __init__(self, config: uvicorn.Config, admission: Admission, ready: str) -> None:
        super().__init__(config)
        self._admission = admission
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print(self._ready, flush=True)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        task = asyncio.current_task()
        assert task is not None

        def end() -> None:
            if self.should_exit:
                task.cancel()
            self.should_exit = self._admission.draining = True

        for ending in _ENDINGS:
            asyncio.get_running_loop().add_signal_handler(ending, end)
        yield


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
    if model.chat_template is not None:
        client.chat_template = _read_template(model.chat_template, client)
    names = model.names or (manifest.name,)
    entry = ServedModel(names[0], client, model.max_model_len or manifest.max_seq_len)
    return dict.fromkeys(names, entry)


def _read_template(path: Path, client: EngineClient) -> ChatTemplate:
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--chat-template {path} cannot be read ({error}); give a Jinja template.") from error
    return ChatTemplate(source, client.tokenizer.bos_token, client.tokenizer.eos_token)


def _uvicorn_config(options: ServerOptions, app: object) -> uvicorn.Config:
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        http=BoundedHttpProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=options.drain_timeout,
        ssl_keyfile=options.ssl_keyfile,
        ssl_certfile=options.ssl_certfile,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"--ssl-certfile and --ssl-keyfile cannot be used ({error}); give PEM files.") from error
    return config


@contextlib.contextmanager
def _listening(options: ServerOptions) -> Iterator[socket.socket]:
    """A bound socket; it accepts nobody until the engines are ready."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((options.host, options.port))
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"--host {options.host} --port {options.port} cannot be bound ({error}); choose others."
            ) from error
        if not options.api_keys and not _loopback(listener.getsockname()[0]):
            print(f"warning: {options.host} can be reached from outside and there is no --api-key", file=sys.stderr)
        yield listener


def _loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


def _ready_line(options: ServerOptions, listener: socket.socket, names: Sequence[str] | dict[str, ServedModel]) -> str:
    scheme = "http" if options.ssl_certfile is None else "https"
    host, port = listener.getsockname()[:2]
    return f"serving {', '.join(names)} at {scheme}://{f'[{host}]' if ':' in host else host}:{port}"
