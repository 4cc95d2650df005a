"""The life of a server that has the page alone, in front of another one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys

from ilmari.server.listening import Server, bound, is_loopback, url_of, uvicorn_config
from ilmari.server.options import ServerOptions
from ilmari.server.relay import create_relay
from ilmari.server.upstream import Upstream


def serve_webui(options: ServerOptions, api_base_url: str) -> None:
    """Serve the page for the server at `api_base_url` until a signal ends it.

    Raises:
        ConfigError: the URL is none, or the address cannot be had.
    """
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    upstream = Upstream.parse(api_base_url)
    with contextlib.suppress(asyncio.CancelledError), bound(options) as listener:
        if not is_loopback(listener):
            print(
                f"warning: {options.host} can be reached from outside, and {api_base_url} through it", file=sys.stderr
            )
        asyncio.run(_serve(options, upstream, listener))


async def _serve(options: ServerOptions, upstream: Upstream, listener: socket.socket) -> None:
    app = create_relay(upstream, options.request_timeout, is_loopback(listener))
    ready = f"serving the page at {url_of(options, listener)} for {upstream.url}"
    await Server(uvicorn_config(options, app), ready).serve([listener])
