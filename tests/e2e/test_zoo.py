"""The vendor's own files with only paths changed, and heads aligned: they compile, and what comes of them answers."""

import platform
from pathlib import Path

import pytest
from checkpoints import TINY_SIZES, write_checkpoint
from commands import ilmari
from needs_mpi import needs_mpi
from refusals import ilmari_here
from thread_ranks import thread_ranks

from ilmari import LLM, SamplingParams
from ilmari.artifact.artifact import Artifact
from ilmari.compile import own_text

pytestmark = [pytest.mark.shared, pytest.mark.usefixtures("kernels_compiled_once")]

ONE_RANK = "frontend.model_kwargs.tp=1"
ALIGNED = "frontend.model_kwargs.align_qkv=true"  # two KV heads for four ranks
QUICK_TARGET = ["--target", "x86-64"] if platform.machine() == "x86_64" else []  # compiled sooner than for this CPU
GPTQ = "gptq"


@needs_mpi
@pytest.mark.demo_model
@pytest.mark.slow
def test_real_weights_on_four_processes(shared: Path, demo_checkpoint: Path, tmp_path: Path) -> None:
    """Nine heads over three KV heads: four ranks need the hint, and the refusal without it says so."""
    recipe = shared / "zoo" / "internlm2_hf_internlm_fp16.yaml"
    paths = [f"frontend.checkpoint={demo_checkpoint}", f"workspace.path={tmp_path}"]
    sets = [word for change in paths for word in ("--set", change)]
    refused = ilmari_here("compile", recipe, *sets)
    assert refused.returncode == 2
    assert "align_qkv" in refused.stderr
    assert ilmari_here("compile", recipe, *sets, "--set", ALIGNED, *QUICK_TARGET).returncode == 0
    (artifact,) = tmp_path.iterdir()
    options = ["--temperature", "0", "--max-tokens", "3", "--threads", "1"]
    answer = ilmari("generate", "--model", artifact, "--prompt", "The capital of France is", *options)
    assert answer.stdout.strip().startswith("Paris"), answer.stderr


@pytest.mark.parametrize(
    ("name", "changes", "scheme", "method", "source"),
    [
        ("internlm2_hf_internlm_fp16", [ALIGNED], "fp16", None, None),
        ("internlm2_hf_internlm_int8", [ALIGNED], "w8a16", GPTQ, "the model's own text"),
        ("vamc_quant", ["dataset.path={shared}/data/alpaca_5000.json"], "w8a16", GPTQ, "alpaca"),
        ("chatglm3_hf_chatglm_kv8", [ONE_RANK], "w16kv8", None, None),
    ],
)
def test_compiles_and_answers(
    shared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    changes: list[str],
    scheme: str,
    method: str | None,
    source: str | None,
) -> None:
    monkeypatch.setattr(own_text, "SAMPLES", 4)  # 32 take long, and make no difference here
    write_checkpoint(tmp_path / "checkpoint", **TINY_SIZES | {"dtype": "float16", "max_position": 2048})
    paths = [f"frontend.checkpoint={tmp_path / 'checkpoint'}", f"workspace.path={tmp_path / 'out'}"]
    sets = [word for change in (*paths, *changes) for word in ("--set", change.format(shared=shared))]
    target = QUICK_TARGET if ALIGNED in changes else []
    result = ilmari_here("compile", shared / "zoo" / f"{name}.yaml", *sets, *target)
    assert result.returncode == 0, result.stderr
    (artifact,) = (tmp_path / "out").iterdir()

    manifest = Artifact.load(artifact).manifest
    assert (manifest.scheme, manifest.tp) == (scheme, 4 if ALIGNED in changes else 1)
    quantization = manifest.quantization
    assert (quantization.layers if quantization else None) == method
    assert (quantization.calibration.source if quantization and quantization.calibration else None) == source
    with thread_ranks():
        (output,) = LLM(artifact).generate([[1, 5, 9]], SamplingParams(temperature=0, max_tokens=5, ignore_eos=True))
    assert len(output.outputs[0].token_ids) == 5
