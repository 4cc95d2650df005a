"""The verbs of `ilmari bench`."""

import typer

from ilmari.cli.bench.kernels import kernels_command
from ilmari.cli.bench.latency import latency_command
from ilmari.cli.bench.roofline import roofline_command

bench_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Measure this machine, and models against what it can do."
)
bench_app.command("roofline")(roofline_command)
bench_app.command("latency")(latency_command)
bench_app.command("kernels")(kernels_command)
