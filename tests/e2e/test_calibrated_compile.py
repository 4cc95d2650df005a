"""Compilations with GPTQ: what they win, what they say, and how they end after an interruption."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import slow_ilmari
import yaml
from checkpoints import TINY_SIZES, raw_weights, write_checkpoint, write_weights
from refusals import assert_one_error, content, ilmari_here

from ilmari import LLM, SamplingParams
from ilmari.artifact.artifact import Artifact
from ilmari.artifact.quantization import QuantizationReport, read_report
from ilmari.compile import own_text

LAYERS = 5
SAMPLES = [
    {"instruction": f"Say {n} in words.", "output": f"{n * 37} is {n * 31} and {'so on ' * n}"} for n in range(90)
]


pytestmark = pytest.mark.usefixtures("kernels_compiled_once")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe for a small checkpoint, calibrated on a small set."""
    folder = tmp_path_factory.mktemp("calibrated")
    write_checkpoint(folder / "checkpoint", **TINY_SIZES | {"layers": LAYERS, "dtype": "bfloat16"})
    (folder / "alpaca.json").write_text(json.dumps(SAMPLES), encoding="utf-8")
    keys = {
        "name": "tiny",
        "frontend": {
            "checkpoint": str(folder / "checkpoint"),
            "shape": {"input_ids": [[32], [64]]},
            "quantize": {"type": "w8a16_gptq"},
        },
        "backend": {"dtype": "int8"},
        "dataset": {"name": "alpaca", "path": str(folder / "alpaca.json"), "nsamples": 20, "seqlen": 48},
        "workspace": {"path": str(folder / "undisturbed")},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(keys), encoding="utf-8")
    return folder / "recipe.yaml"


def compiled(recipe: Path, place: Path, *overrides: str) -> Path:
    """The artifact, and nothing beside it."""
    sets = [word for override in (f"workspace.path={place}", *overrides) for word in ("--set", override)]
    result = ilmari_here("compile", recipe, *sets)
    assert result.returncode == 0, result.stderr
    assert [path.name for path in place.iterdir()] == ["tiny"]
    return place / "tiny"


@pytest.fixture(scope="module")
def undisturbed(recipe: Path, kernels_compiled_once: Path) -> Path:  # noqa: ARG001
    return compiled(recipe, recipe.parent / "undisturbed")


def report(artifact: Path) -> QuantizationReport:
    """The report, after a look at what it says of every projection."""
    found = read_report(artifact)
    parts = ["q", "k", "v", "o", "gate", "up", "down"]
    assert [each.name for each in found.projections] == [
        *(f"layers.{layer}.{part}" for layer in range(LAYERS) for part in parts),
        "head",
    ]
    assert Artifact.open(artifact).manifest.quantization == found.quantization
    return found


def test_every_projection_gains(undisturbed: Path) -> None:
    found = report(undisturbed)
    calibration = found.quantization.calibration
    assert calibration is not None
    assert (found.quantization.layers, found.quantization.head) == ("gptq", "round to nearest")
    assert (calibration.source, calibration.samples, calibration.seqlen, calibration.tokens) == ("alpaca", 20, 48, 960)
    *projections, head = found.projections
    for each in projections:
        assert each.output is not None
        assert each.rounded_output is not None
        assert each.rounded_weight is not None
        assert 0 < each.output < 0.9 * each.rounded_output, each
        assert each.weight > each.rounded_weight > 0, each
    assert (head.output, head.rounded_output) == (None, None)
    worst = found.worst_first()
    assert worst[0].output == max(each.output or 0 for each in projections)
    assert worst[-1] == head


def test_settings_make_a_difference(recipe: Path, undisturbed: Path, tmp_path: Path) -> None:
    """Each of them changes the weights, and each result still beats rounding to nearest."""
    seen = [undisturbed]
    for name, value in (("act_order", "false"), ("true_sequential", "true"), ("damp_percent", "0.1")):
        artifact = compiled(recipe, tmp_path / name, f"frontend.quantize.calib_args.{name}={value}")
        calibration = report(artifact).quantization.calibration
        assert getattr(calibration, name) == yaml.safe_load(value)
        for each in report(artifact).projections[:-1]:
            assert (each.output or 1) < 0.95 * (each.rounded_output or 0), (name, each)
        seen.append(artifact)
    assert len({(artifact / "params/rank0.safetensors").read_bytes() for artifact in seen}) == len(seen)


def test_own_text(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a data set the model writes one, and says so; the same recipe gives the same bytes again."""
    monkeypatch.setattr(own_text, "SAMPLES", 3)
    monkeypatch.setattr(own_text, "LENGTH", 24)
    places = [tmp_path / "first", tmp_path / "second"]
    for place in places:
        result = ilmari_here("compile", recipe, "--set", "dataset=null", "--set", f"workspace.path={place}")
        assert result.returncode == 0, result.stderr
        assert "the model itself writes the text that GPTQ calibrates on" in result.stderr.splitlines()[0]
    calibration = report(places[0] / "tiny").quantization.calibration
    assert calibration is not None
    assert (calibration.source, calibration.samples, calibration.seqlen) == ("the model's own text", 3, 24)
    assert content(places[0]) == content(places[1])


def test_8_bit_activations_and_cache(recipe: Path, undisturbed: Path, tmp_path: Path) -> None:
    """They have the same weights; and the artifact answers."""
    artifact = compiled(recipe, tmp_path, "frontend.quantize.type=w8a8_gptq_kv8")
    assert Artifact.open(artifact).manifest.scheme == "w8a8_kv8"
    weights = "params/rank0.safetensors"
    assert (artifact / weights).read_bytes() == (undisturbed / weights).read_bytes()
    (output,) = LLM(artifact).generate([[1, 2, 3]], SamplingParams(max_tokens=4, ignore_eos=True))
    assert len(output.outputs[0].token_ids) == 4


def test_activations_that_overflow(recipe: Path, tmp_path: Path) -> None:
    """The error names layer and projection; the layers before it stay."""
    checkpoint = Path(shutil.copytree(recipe.parent / "checkpoint", tmp_path / "checkpoint"))
    weights = raw_weights(checkpoint)
    for part in ("w1", "w3"):
        name = f"model.layers.1.feed_forward.{part}.weight"
        weights[name] = (weights[name].astype(np.float32) * np.float32(1e22)).astype(weights[name].dtype)
    write_weights(checkpoint, weights)
    place = tmp_path / "out"
    changes = ("--set", f"frontend.checkpoint={checkpoint}", "--set", f"workspace.path={place}")
    result = ilmari_here("compile", recipe, *changes)
    assert_one_error(result, f"{checkpoint}: in layer 1 the inputs of down are not finite")
    assert "Warning" not in result.stderr
    assert (place / ".tiny.calibration" / "layer-0").exists()


def test_killed_again_and_again(recipe: Path, undisturbed: Path, kernels_compiled_once: Path, tmp_path: Path) -> None:
    """It goes on where it was, and ends in the same bytes."""
    chance = random.Random(0)
    work = tmp_path / ".tiny.calibration"
    program = [sys.executable, slow_ilmari.__file__, kernels_compiled_once]
    command = [*program, "compile", recipe, "--set", f"workspace.path={tmp_path}"]
    begun = []
    for moment, at_most in (("samples", 0.5), ("layer-0", 0.5), ("hidden-3", 0.5), (f"layer-{LAYERS - 1}", 0.25)):
        with subprocess.Popen(
            list(map(str, command)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        ) as process:
            while not (work / moment).exists():
                assert process.poll() is None, process.communicate()
                time.sleep(0.001)
            time.sleep(chance.uniform(0, at_most))
            process.send_signal(signal.SIGKILL)
        begun.append([path.stat().st_mtime_ns for path in work.glob("layer-0")])
    assert begun[2] == begun[3] != [], "the first layer was not quantized again"
    assert not (tmp_path / "tiny").exists()
    assert content(compiled(recipe, tmp_path)) == content(undisturbed)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system on which the first layers fit."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small file system is not permitted")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_full_disk(recipe: Path, undisturbed: Path, small_disk: Path) -> None:
    """The layers that fitted stay, and count when there is more room."""
    work = small_disk / ".tiny.calibration"
    result = ilmari_here("compile", recipe, "--set", f"workspace.path={small_disk}")
    assert_one_error(result, f"{work} cannot be written (No space left on device)", "free space")
    assert [path.name for path in small_disk.iterdir()] == [work.name]
    assert (work / "layer-0").exists()
    assert not list(work.glob("partial-*"))
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    assert content(compiled(recipe, small_disk)) == content(undisturbed)
