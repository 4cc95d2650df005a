"""The vendor's command `vamc`, on top of `ilmari compile`."""

import sys

import typer

from ilmari.cli.compile import compile_command
from ilmari.cli.errors import run

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
app.command("compile")(compile_command)


@app.callback()
def vamc() -> None:
    """The vendor's compiler command, done by ilmari: the same configuration files, compiled for the CPU."""


def main() -> None:
    """Entry point of `vamc`."""
    sys.exit(run(app, "vamc"))
