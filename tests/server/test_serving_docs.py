"""docs/serving.md says what the code does: every endpoint, flag, field, limit, error and metric, and no others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from fake_engine import MakeApp

from ilmari.cli.app import app as cli
from ilmari.model.sandbox import MAX_SECONDS
from ilmari.server import limits
from ilmari.server.chat_request import ChatRequest
from ilmari.server.completion_request import CompletionRequest
from ilmari.server.errors import TYPES
from ilmari.server.request_fields import GenerationFields

DOCS = (Path(__file__).resolve().parents[2] / "docs" / "serving.md").read_text()


def first_cells(heading: str) -> list[str]:
    """What stands between backticks in the first column of the tables under a heading."""
    section = DOCS.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| ") and "---" not in line]
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def test_endpoints(make_app: MakeApp) -> None:
    paths = make_app().openapi()["paths"]
    assert sorted(first_cells("Endpoints")) == sorted(
        f"{method.upper()} {path}" for path, operations in paths.items() for method in operations
    )


def test_flags() -> None:
    command = typer.main.get_command(cli)
    options = command.commands["serve"].params  # type: ignore[attr-defined]
    flags = {flag for option in options for flag in (*option.opts, *option.secondary_opts)} - {"--help"}
    assert {flag.split()[0] for flag in first_cells("Flags")} == flags


def test_fields() -> None:
    fields = GenerationFields.model_fields | ChatRequest.model_fields | CompletionRequest.model_fields
    documented = first_cells("Fields")
    assert sorted(set(documented)) == sorted(fields)
    own = documented[documented.index("messages") : documented.index("prompt")]
    assert set(own) - {"logprobs"} == ChatRequest.model_fields.keys() - GenerationFields.model_fields.keys() - {
        "logprobs"
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAX_BODY_BYTES", "4 MiB"),
        ("MAX_HEAD_BYTES", "64 KiB"),
        ("MAX_GRAMMAR_CHARS", "65536 "),
        ("MAX_SCHEMA_BYTES", "64 KiB"),
        ("MAX_SCHEMA_NESTING", "32 "),
        ("MAX_LOGPROB_ENTRIES", "524288 "),
    ]
    + [(name, f"{getattr(limits, name):g} s") for name in ("HEAD_TIMEOUT_S", "BODY_TIMEOUT_S", "PROMPT_TIMEOUT_S")],
)
def test_limits(name: str, value: str) -> None:
    units = {"MiB": 1 << 20, "KiB": 1 << 10}
    number, _, unit = value.partition(" ")
    assert float(number) * units.get(unit, 1) == getattr(limits, name)
    assert f"| `{name}` | {value}" in DOCS


def test_the_limit_of_templates() -> None:
    assert f"| `MAX_SECONDS` | {MAX_SECONDS:g} s" in DOCS


def test_bounds_of_fields() -> None:
    for sentence in (
        f"1 to {limits.MAX_N} |",
        f"1 to {limits.MAX_PROMPTS} of either; at most {limits.MAX_SEQUENCES} replies",
        f"1 to {limits.MAX_MESSAGES}, of roles",
        f"at most {limits.MAX_TEMPLATE_VARIABLES} variables",
        f"1 to {limits.MAX_NAME_CHARS} characters",
    ):
        assert sentence in DOCS


def test_errors() -> None:
    rows = re.findall(r"^\| ([\d, ]+) \| `(\w+)` \|$", DOCS, re.MULTILINE)
    assert {int(status): kind for statuses, kind in rows for status in statuses.split(",")} == TYPES


def test_metrics(make_app: MakeApp) -> None:
    text = make_app().state.service.metrics.text().decode()
    kinds = dict(re.findall(r"^# TYPE (\S+) (\w+)$", text, re.MULTILINE))
    kinds = {name: kind for name, kind in kinds.items() if not name.endswith("_created")}
    documented = dict(re.findall(r"^\| `(ilmari:\w+)` \| (\w+) \|", DOCS, re.MULTILINE))
    assert documented == kinds
