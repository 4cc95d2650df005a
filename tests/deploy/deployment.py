"""What is in `deploy/`, and what the server makes of the flags that stand there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from ilmari.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"


def serve_options(flags: Sequence[str]) -> dict[str, Any]:
    """The options of `ilmari serve` with these flags, read as the command reads them; nothing is run."""
    serve = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    return dict(serve.make_context("serve", list(flags)).params)
