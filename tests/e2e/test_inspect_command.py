"""`ilmari inspect`: every number against the checkpoint and the files themselves."""

import importlib.util
import json
import math
import platform
import re
from pathlib import Path
from typing import Any

import pytest
from checkpoints import TINY_SIZES, CompileTiny, raw_weights
from commands import assert_refused, ilmari
from refusals import ilmari_here
from safetensors.numpy import load_file

from ilmari.cli.units import si
from ilmari.kernels.scheme import SCHEMES

FOREIGN = {"x86_64": ("neoverse-n1", "aarch64"), "aarch64": ("haswell", "x86_64")}


def inspect(artifact: Path) -> dict[str, Any]:
    """What `inspect --json` prints."""
    result = ilmari_here("inspect", artifact, "--json")
    assert (result.returncode, result.stderr) == (0, "")
    summary: dict[str, Any] = json.loads(result.stdout)
    return summary


def test_json(tiny_artifact: Path, tiny_checkpoint: Path) -> None:
    summary = inspect(tiny_artifact)
    scheme = tiny_artifact.name.removeprefix("tiny-")
    assert summary["name"] == f"tiny-{scheme}"
    assert summary["precision"]["scheme"] == scheme
    assert summary["precision"]["weights"].startswith(SCHEMES[scheme].weights)
    assert summary["precision"]["kv_cache"].startswith(SCHEMES[scheme].kv_cache)
    assert (summary["max_prompt_len"], summary["max_seq_len"], summary["tp"]) == (128, 256, 1)
    assert summary["scheduling"] == "latency"
    assert (summary["runs_here"], summary["reason"]) == (True, None)
    assert "obstacle" not in summary

    weights = raw_weights(tiny_checkpoint)
    assert summary["parameters"] == sum(weight.size for weight in weights.values())
    matrices = sum(w.size for name, w in weights.items() if w.ndim == 2 and "tok_embeddings" not in name)
    layers, heads, kv_heads, head_dim = 2, TINY_SIZES["heads"], TINY_SIZES["kv_heads"], 64
    kv_bytes = layers * 2 * kv_heads * (head_dim + 4 if scheme == "w16kv8" else head_dim * 2)
    assert summary["kv_bytes_per_token"] == kv_bytes
    packed = load_file(tiny_artifact / "params" / "rank0.safetensors")
    read = sum(tensor.nbytes for name, tensor in packed.items() if name != "embedding")
    assert summary["decode"] == [
        {"context": 0, "flops_per_token": 2 * matrices, "bytes_read_per_token": read},
        {
            "context": 255,
            "flops_per_token": 2 * (matrices + 255 * layers * 2 * heads * head_dim),
            "bytes_read_per_token": read + 255 * kv_bytes,
        },
    ]
    on_disk = {str(path.relative_to(tiny_artifact)): path.stat().st_size for path in tiny_artifact.rglob("*.*")}
    assert summary["files"] == on_disk


def test_text(compile_tiny: CompileTiny) -> None:
    artifact = compile_tiny("w8a16", rope_scaling={"type": "dynamic", "factor": 2.5})
    result = ilmari("inspect", artifact)
    assert (result.returncode, result.stderr) == (0, "")
    assert "\x1b" not in result.stdout
    rows = {line[:22].strip(): line[22:] for line in result.stdout.splitlines()}
    assert result.stdout.startswith("tiny-w8a16\n")
    assert rows["RoPE"] == "base 10,000, made for 256 tokens, longer prompts by dynamic NTK with factor 2.5"
    assert rows["weights"] == "int8, one scale per output channel"
    assert rows["runs here"] == "yes"
    assert re.fullmatch(r"2\.7\d MFLOP at context 0, .* MFLOP at context 255", rows["FLOPs per token"])
    assert re.fullmatch(r".* [kM]B at context 0, .* [kM]B at context 255", rows["bytes read per token"])
    assert rows["longest sequence"] == "256 tokens"
    assert rows["query heads"] == "6 of size 64"
    assert set(inspect(artifact)["target"]["features"]) == set(rows["CPU features"].split()), "on one line, for grep"
    for path in ("kernels.o", "params/rank0.safetensors", "manifest.json", "in all"):
        assert path in result.stdout


def test_machine_that_cannot_run_it(compile_tiny: CompileTiny) -> None:
    cpu, arch = FOREIGN[platform.machine()]
    artifact = compile_tiny("fp16", cpu)
    summary = inspect(artifact)
    assert (summary["target"]["cpu"], summary["target"]["arch"]) == (cpu, arch)
    assert summary["runs_here"] is False
    assert arch in summary["reason"]
    assert f"  no: {artifact} was compiled for {arch}" in ilmari("inspect", artifact).stdout
    assert ilmari_here("verify", artifact).returncode == 0
    assert_refused(ilmari("generate", "--model", artifact, "--prompt", "x"), f"was compiled for {arch} ({cpu})")


def test_quantization(compile_tiny: CompileTiny) -> None:
    """The worst first, as they are in the file; by rounding, nothing is known but what the weights lost."""
    artifact = compile_tiny("w8a16")
    report = json.loads((artifact / "quantization.json").read_text(encoding="utf-8"))
    shown = ilmari("inspect", artifact, "--quantization", "--json")
    assert json.loads(shown.stdout) == report
    assert report["quantization"] == {"layers": "round to nearest", "head": "round to nearest", "calibration": None}
    assert [(each["layer"], each["projection"]) for each in report["projections"]] == [
        *((layer, part) for layer in range(2) for part in ("q", "k", "v", "o", "gate", "up", "down")),
        (None, "head"),
    ]
    assert all(0.001 < each["weight"] < 0.02 and each["output"] is None for each in report["projections"])

    title, blank, _, *lines = ilmari("inspect", artifact, "--quantization").stdout.splitlines()
    assert (title, blank) == ("tiny-w8a16: round to nearest", "")
    errors = [float(line.split()[1].rstrip("%")) / 100 for line in lines]
    assert errors == sorted(errors, reverse=True)
    assert errors == pytest.approx(sorted((each["weight"] for each in report["projections"]), reverse=True), abs=1e-6)


def test_quantization_of_floats(compile_tiny: CompileTiny) -> None:
    result = ilmari("inspect", compile_tiny("fp16"), "--quantization")
    assert_refused(result, "has float16 weights, which were not quantized", "int8 weights")


def test_plot(compile_tiny: CompileTiny, tmp_path: Path) -> None:
    artifact = compile_tiny("w8a16")
    if importlib.util.find_spec("matplotlib") is None:
        result = ilmari("inspect", artifact, "--quantization", "--plot", tmp_path / "errors.png")
        assert_refused(result, "--plot needs matplotlib", "pip install 'ilmari[bench]'")
        return
    result = ilmari("inspect", artifact, "--quantization", "--plot", tmp_path / "errors.png")
    assert (result.returncode, result.stderr) == (0, "")
    assert (tmp_path / "errors.png").read_bytes().startswith(b"\x89PNG")
    result = ilmari("inspect", artifact, "--plot", tmp_path / "absent" / "errors.png")
    assert_refused(result, "errors.png cannot be written (No such file or directory)")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (46080, "46.1 kB"), (999_600, "1 MB"), (181_272_832, "181 MB")],
)
def test_units(value: int, text: str) -> None:
    assert si(value, "B") == text


def test_units_of_great_numbers() -> None:
    assert si(math.pi * 1e9, "FLOP") == "3.14 GFLOP"
    assert si(2e18, "B") == "2000 PB"
