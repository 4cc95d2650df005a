"""The command `ilmari`: a table of verbs, one file each, that import what is heavy only when they run."""

import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated

import typer

from ilmari.cli.bench.app import bench_app
from ilmari.cli.chat import chat_command
from ilmari.cli.compile import compile_command
from ilmari.cli.demo import demo_command
from ilmari.cli.errors import run
from ilmari.cli.eval.app import eval_app
from ilmari.cli.generate import generate_command
from ilmari.cli.inspect import inspect_command
from ilmari.cli.serve import serve_command
from ilmari.cli.verify import verify_command
from ilmari.cli.webui import webui_command

VERBS: dict[str, Callable[..., None]] = {
    "demo": demo_command,
    "compile": compile_command,
    "chat": chat_command,
    "generate": generate_command,
    "serve": serve_command,
    "webui": webui_command,
    "inspect": inspect_command,
    "verify": verify_command,
}

# Without rich markup, help shows flags as flags: with it typer gives each of them a value, <bool>.
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
for _name, _command in VERBS.items():
    app.command(_name)(_command)
app.add_typer(eval_app, name="eval")
app.add_typer(bench_app, name="bench")


def print_version(wanted: bool) -> None:
    """Print the version and end the command, if `--version` was given."""
    if wanted:
        print(f"ilmari {version('ilmari')}")
        raise typer.Exit


VersionOption = Annotated[
    bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit.")
]


@app.callback()
def ilmari(version: VersionOption = False) -> None:
    """Compile InternLM checkpoints ahead of time to the CPU at hand, and run them."""


def main() -> None:
    """Entry point of `ilmari` and `python -m ilmari`."""
    sys.exit(run(app, "ilmari"))
