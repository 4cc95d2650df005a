"""What every server of ours does with its socket and with signals, whatever application it runs."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import signal
import socket
import ssl
from collections.abc import Iterator

import uvicorn

from ilmari.errors import ConfigError
from ilmari.server.http_protocol import BoundedHttpProtocol
from ilmari.server.options import ServerOptions

ENDINGS = (signal.SIGTERM, signal.SIGINT)
"""The signals that end a server."""


class Server(uvicorn.Server):
    """Says on stdout when it is ready; the first signal lets it end in order, the second ends it at once."""

    def __init__(self, config: uvicorn.Config, ready: str) -> None:
        """ready: what it says."""
        super().__init__(config)
        self._ready = ready

    def end(self) -> None:
        """End in order."""
        self.should_exit = True
        self.ending()

    def ending(self) -> None:
        """The end has begun."""

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
            self.end()

        for ending in ENDINGS:
            asyncio.get_running_loop().add_signal_handler(ending, end)
        yield


def uvicorn_config(options: ServerOptions, app: object) -> uvicorn.Config:
    """How `app` is run.

    Raises:
        ConfigError: the certificate cannot be used.
    """
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
def bound(options: ServerOptions) -> Iterator[socket.socket]:
    """A bound socket; it accepts nobody until its server is ready.

    Raises:
        ConfigError: there is no such address, or it is taken.
    """
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    # asyncio lets small packets leave at once only where the socket says that it speaks TCP; else the first token waits
    # 40 ms for the client's word that the headers came.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((options.host, options.port))
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"--host {options.host} --port {options.port} cannot be bound ({error}); choose others."
            ) from error
        yield listener


def is_loopback(listener: socket.socket) -> bool:
    """Whether only this machine can reach it."""
    return ipaddress.ip_address(listener.getsockname()[0]).is_loopback


def url_of(options: ServerOptions, listener: socket.socket) -> str:
    """Where it listens."""
    scheme = "http" if options.ssl_certfile is None else "https"
    host, port = listener.getsockname()[:2]
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
