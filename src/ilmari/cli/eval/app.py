"""The verbs of `ilmari eval`."""

import typer

from ilmari.cli.eval.ceval import ceval_command
from ilmari.cli.eval.compare import compare_command
from ilmari.cli.eval.perplexity import perplexity_command

eval_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Measure how well models predict texts and answer exams."
)
eval_app.command("perplexity")(perplexity_command)
eval_app.command("ceval")(ceval_command)
eval_app.command("compare")(compare_command)
