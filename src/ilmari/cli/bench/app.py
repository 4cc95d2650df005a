"""The verbs of `ilmari bench`."""

import typer

from ilmari.cli.bench.compare import compare_command
from ilmari.cli.bench.kernels import kernels_command
from ilmari.cli.bench.latency import latency_command
from ilmari.cli.bench.roofline import roofline_command
from ilmari.cli.bench.serve import serve_command

bench_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Measure this machine, models beside it, and servers.",
)
bench_app.command("roofline")(roofline_command)
bench_app.command("latency")(latency_command)
bench_app.command("kernels")(kernels_command)
bench_app.command("serve")(serve_command)
bench_app.command("compare")(compare_command)
