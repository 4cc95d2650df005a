"""Fixtures that every test may use."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import checkpoints
import pytest
from checkpoints import TINY_SIZES, CompileTiny
from kernel_store import kernel_store

from ilmari.compile.config import CompileConfig
from ilmari.compile.pipeline import compile_model
from ilmari.demo.download import fetch_weights
from ilmari.demo.gguf_checkpoint import write_checkpoint
from ilmari.errors import DownloadError
from ilmari.kernels.plan import FLOAT_FORMS
from ilmari.kernels.scheme import SCHEMES

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of tokenizers, data and vendor files that lies beside the repository."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is absent: real tokenizers, data and vendor files are not part of the repository")
    return SHARED


@pytest.fixture(scope="session")
def demo_gguf() -> Path:
    """The GGUF file of the demo weights, in the cache; downloaded on first use."""
    try:
        return fetch_weights(lambda *_: None)
    except DownloadError as error:
        pytest.skip(f"the demo weights cannot be had: {error}")


@pytest.fixture(scope="session")
def demo_checkpoint(demo_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The demo weights as an InternLM2 folder: converted afresh, so that no old conversion is ever tested."""
    parent = tmp_path_factory.mktemp("demo")
    write_checkpoint(demo_gguf, parent / "smollm2-135m", lambda *_: None)
    yield parent / "smollm2-135m"
    shutil.rmtree(parent)


@pytest.fixture(scope="session")
def kernels_compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """From here on this process compiles the same kernels for the same CPU once, or leaves it to another worker.

    The folder in which they are.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "kernels"
    with kernel_store(folder):
        yield folder


@pytest.fixture(scope="session")
def compile_tiny(kernels_compiled_once: Path, tmp_path_factory: pytest.TempPathFactory) -> CompileTiny:  # noqa: ARG001
    """A function that compiles small random models."""
    made: dict[str, Path] = {}

    def checkpoint_of(sizes: dict[str, Any]) -> Path:
        key = f"checkpoint {sorted(sizes.items())}"
        if key not in made:
            made[key] = checkpoints.write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny", **sizes)
        return made[key]

    def compile_tiny(
        scheme: str,
        target: str = "host",
        *,
        lengths: tuple[int, int] = (128, 256),
        tp: int = 1,
        **checkpoint: Any,
    ) -> Path:
        sizes = TINY_SIZES | checkpoint
        key = f"{scheme} {target} {lengths} {tp} {sorted(sizes.items())}"
        if key not in made:
            output = tmp_path_factory.mktemp("artifact") / f"tiny-{scheme}"
            config = CompileConfig(
                Path("tiny.yaml"),
                output.name,
                checkpoint_of(sizes),
                *lengths,
                scheme,
                output,
                (),
                tp=tp,
                align_qkv=True,
            )
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("ilmari.kernels.plan.FLOAT_FORMS", FLOAT_FORMS)  # not what `one_linear_kernel` leaves
                made[key] = compile_model(config, target=target, report=lambda *_: None)
        return made[key]

    return compile_tiny


@pytest.fixture(scope="module")
def one_linear_kernel() -> Iterator[None]:
    """Linear layers compute any number of rows alike: with more rows no activation is rounded to bfloat16."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ilmari.kernels.plan.FLOAT_FORMS", FLOAT_FORMS[:1])
        yield


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random checkpoint with a tokenizer and a chat template; shared, so only to be read."""
    return checkpoints.write_checkpoint(tmp_path_factory.mktemp("tiny") / "checkpoint", **TINY_SIZES)


@pytest.fixture(scope="session", params=[name for name in SCHEMES if not name.endswith("_kv8")])
def tiny_artifact(request: pytest.FixtureRequest, compile_tiny: CompileTiny) -> Path:
    """A small random model for this host, in each precision of weights, activations and cache; only to be read."""
    return compile_tiny(request.param)
