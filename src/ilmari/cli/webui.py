"""`ilmari webui`: the page in front of any server of OpenAI's API."""

from __future__ import annotations

from typing import Annotated

import typer

from ilmari.server.options import HOST, ServerOptions

PORT = 9600
DRAIN_TIMEOUT_S = 2


def webui_command(
    api_base_url: Annotated[
        str, typer.Option(metavar="URL", help="The server to talk to, such as http://127.0.0.1:8000/v1.")
    ],
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="The address to listen at.")] = HOST,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen at; 0 takes a free one.")] = PORT,
) -> None:
    """Serve the page for chatting, in front of any server."""
    from ilmari.server.webui import serve_webui

    serve_webui(ServerOptions(host=host, port=port, drain_timeout=DRAIN_TIMEOUT_S), api_base_url)
