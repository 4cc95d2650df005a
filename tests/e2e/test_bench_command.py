"""`ilmari bench`: the last line is one JSON object, and what cannot be measured is refused in one sentence."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import ilmari
from refusals import assert_one_error, ilmari_here

PROVENANCE = {"cpu", "threads", "date", "versions"}
RATES = {"read_gb_s", "int8_gmac_s", "int16_gmac_s", "bf16_gmac_s", "fp32_gmac_s"}
SPEEDS = {"prefill_tok_s", "decode_tok_s", "ttft_ms", "tpot_ms", "prefill_fraction", "decode_fraction"}


def last_line(*args: str | Path) -> dict[str, Any]:
    result = ilmari("bench", *args)
    assert result.returncode == 0, result.stderr
    assert "\x1b" not in result.stdout + result.stderr
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    assert found.keys() >= PROVENANCE | RATES
    assert all(found[key] is None or 0 < found[key] < math.inf for key in RATES)
    assert ("--json" in args) == (result.stdout.count("\n") == 1)
    return found


def test_roofline() -> None:
    found = last_line("roofline", "--rounds", "2", "--threads", "1")
    assert (found["rounds"], found["threads"]) == (2, 1)
    assert found["median"].keys() == RATES
    assert found["median"]["read_gb_s"] <= found["read_gb_s"]


@pytest.fixture
def artifact(compile_tiny: Callable[..., Path]) -> Path:
    """With kernels of its own for long steps. What kernels of other precisions cost is worked out in unit tests."""
    return compile_tiny("w8a16")


def test_latency(artifact: Path) -> None:
    found = last_line(
        *("latency", "--model", artifact, "--input-len", "40", "--output-len", "5", "--batch", "3"),
        *("--rounds", "2", "--profile"),
    )
    expected = {"batch": 3, "input_len": 40, "output_len": 5, "rounds": 2, "model": artifact.name}
    assert {key: found[key] for key in expected} == expected
    for figures in (found, found["median"]):
        assert figures.keys() >= SPEEDS | RATES
        assert all(0 < figures[key] < math.inf for key in SPEEDS)
        assert figures["tpot_ms"] * figures["decode_tok_s"] == pytest.approx(3 * 1000)
    assert found["profile"]["decode"]["steps"] == 4
    assert found["profile"]["prefill"]["kernels"]


def test_latency_as_json_alone(artifact: Path) -> None:
    found = last_line(
        *("latency", "--model", artifact, "--input-len", "3", "--output-len", "2", "--rounds", "1"),
        "--json",
    )
    assert "profile" not in found


def test_kernels(artifact: Path) -> None:
    found = last_line("kernels", "--model", artifact, "--rows", "1,20", "--context", "50", "--rounds", "1")
    assert found["context"] == 50
    assert {row["rows"] for row in found["kernels"]} == {1, 20}
    for row in found["kernels"]:
        assert 0 < row["ms"] <= row["median_ms"]
        assert 0 < row["fraction"] < math.inf


REFUSED = {
    "long prompt": (
        ["latency", "--input-len", "129"],
        "--input-len is 129 and this artifact takes",
    ),
    "long answer": (["latency", "--input-len", "100", "--output-len", "157"], "grow to 257 tokens"),
    "great batch": (["latency", "--input-len", "4", "--batch", "20000"], "max_num_seqs is 20000"),
    "rows that are no numbers": (["kernels", "--rows", "1,two"], "--rows is '1,two'"),
    "no rows": (["kernels", "--rows", "0"], "--rows has 0"),
    "long context": (["kernels", "--rows", "1", "--context", "256"], "a sequence of 257 tokens"),
}


@pytest.mark.parametrize(("args", "words"), REFUSED.values(), ids=REFUSED)
def test_refused(artifact: Path, args: list[str], words: str) -> None:
    result = ilmari_here("bench", *args, "--model", artifact)
    assert_one_error(result, words)
    assert result.stdout == ""


@pytest.mark.parametrize("verb", ["latency", "kernels"])
def test_no_artifact(tmp_path: Path, verb: str) -> None:
    assert_one_error(ilmari_here("bench", verb, "--model", tmp_path), "is not a compiled model")


@pytest.mark.parametrize(
    "args", [["latency"], ["latency", "--model", "x", "--output-len", "1"], ["roofline", "--rounds", "0"], ["all"]]
)
def test_usage_error(args: list[str]) -> None:
    result = ilmari_here("bench", *args)
    assert (result.returncode, result.stdout) == (2, "")
    assert "Usage:" in result.stderr
