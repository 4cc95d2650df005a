"""The vendor's command `vastgenx`, on top of `ilmari serve` and `ilmari webui`."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from ilmari.cli.errors import run
from ilmari.cli.webui import PORT as WEBUI_PORT
from ilmari.cli.webui import webui_command as ilmari_webui
from ilmari.errors import ArtifactError, ConfigError
from ilmari.server.options import HOST, ServerOptions

PORT = 9000

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command("serve")
def serve_command(
    model: Annotated[Path, typer.Option(metavar="DIR", help="An artifact, as `vamc compile` writes it.")],
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="The address to listen at.")] = HOST,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen at; 0 takes a free one.")] = PORT,
    batch_size: Annotated[int, typer.Option("--batch_size", min=1, help="The most replies at once.")] = 16,
    llm_devices: Annotated[
        str | None, typer.Option("--llm_devices", metavar="[ID,...]", help="A device for each rank, as --devices.")
    ] = None,
) -> None:
    """Serve a model over OpenAI's API, as `ilmari serve` does with more options."""
    from ilmari.engine.options import EngineOptions, Placement
    from ilmari.engine.ranks import follow_rank0
    from ilmari.server.serve import ModelOptions, serve

    ranks = _ranks(model)
    follow_rank0(ranks)
    if llm_devices is not None:
        _check_devices(llm_devices)
        if ranks == 1:
            typer.secho("--llm_devices has no meaning for one rank: all of the CPU computes.", dim=True, err=True)
            llm_devices = None
    served = ModelOptions(folder=model, placement=Placement(devices=llm_devices))
    serve(ServerOptions(host=host, port=port), [served], EngineOptions(max_num_seqs=batch_size))


@app.command("webui")
def webui_command(
    api_base_url: Annotated[
        str, typer.Option("--api_base_url", metavar="URL", help="The server to talk to, such as http://127.0.0.1:9000.")
    ],
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="The address to listen at.")] = HOST,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port to listen at; 0 takes a free one.")
    ] = WEBUI_PORT,
) -> None:
    """Serve the page for chatting, as `ilmari webui` does."""
    ilmari_webui(api_base_url, host, port)


@app.callback()
def vastgenx() -> None:
    """The vendor's server command, done by ilmari on the CPU."""


def _ranks(model: Path) -> int:
    """How many ranks an artifact has; what is wrong with one that cannot be read is `serve`'s to say."""
    from ilmari.artifact.artifact import Artifact

    try:
        return Artifact.open(model).manifest.tp
    except ArtifactError:
        return 1


def _check_devices(text: str) -> None:
    try:
        devices = json.loads(text)
    except (ValueError, RecursionError):
        devices = None
    if (
        not isinstance(devices, list)
        or not devices
        or not all(type(device) is int and device >= 0 for device in devices)
    ):
        raise ConfigError(f"--llm_devices is {text!r}; expected a list of device numbers, such as [0,1].")


def main() -> None:
    """Entry point of `vastgenx`."""
    sys.exit(run(app, "vastgenx"))
