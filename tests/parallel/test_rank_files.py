"""An artifact for several ranks: a file of parameters for each, which is all of them that it needs."""

import platform
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from checkpoints import GROUPED_SIZES, CompileTiny, raw_weights, write_checkpoint

from ilmari.artifact.artifact import Artifact
from ilmari.artifact.summary import summarize
from ilmari.errors import ArtifactError

TARGET = "x86-64" if platform.machine() == "x86_64" else "host"  # compiled sooner than for this CPU
SIZES = GROUPED_SIZES["3-per-kv"]


@pytest.fixture
def folder(compile_tiny: CompileTiny, tmp_path: Path) -> Path:
    """Two KV heads of three query heads each on four ranks, and 331 tokens."""
    return copytree(compile_tiny("fp16", TARGET, tp=4, **SIZES), tmp_path / "model")


def test_names_and_digests(folder: Path) -> None:
    paths = [record.path for record in Artifact.load(folder).manifest.files]
    assert [path for path in paths if path.startswith("params/")] == [f"params/rank{n}.safetensors" for n in range(4)]
    assert sorted(str(path.relative_to(folder)) for path in folder.glob("params/*")) == paths[-4:]


def test_tokens_of_each_rank(folder: Path, tmp_path: Path) -> None:
    """The embedding is split, not copied, and ends with zeros; norms are on each rank."""
    artifact, weights = Artifact.load(folder), raw_weights(write_checkpoint(tmp_path / "checkpoint", **SIZES))
    params = [artifact.params(rank) for rank in range(4)]
    together = np.concatenate([each["embedding"] for each in params])
    np.testing.assert_array_equal(together, np.pad(weights["model.tok_embeddings.weight"], ((0, 1), (0, 0))))
    for each in params:
        np.testing.assert_array_equal(each["norm"], weights["model.norm.weight"].astype(np.float32))


def test_a_rank_needs_its_own_parameters_only(folder: Path) -> None:
    (folder / "params" / "rank0.safetensors").unlink()
    with (folder / "params" / "rank2.safetensors").open("r+b") as file:
        file.write(b"damage")
    Artifact.load(folder, rank=1)
    with pytest.raises(ArtifactError, match=r"rank2\.safetensors was altered"):
        Artifact.load(folder, rank=2)
    with pytest.raises(ArtifactError, match=r"rank0\.safetensors is missing"):
        Artifact.load(folder)


def test_verify_reads_every_file(folder: Path) -> None:
    Artifact.open(folder).verify(lambda *_: None)
    with (folder / "params" / "rank2.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"!")
    with pytest.raises(ArtifactError, match=r"rank2\.safetensors was altered"):
        Artifact.open(folder).verify(lambda *_: None)


def test_cost_is_that_of_a_rank(folder: Path, compile_tiny: CompileTiny) -> None:
    """Each rank has one KV head with two query heads, or with the third."""
    several, one = (summarize(Artifact.open(each)) for each in (folder, compile_tiny("fp16", TARGET, **SIZES)))
    assert (several.tp, one.tp) == (4, 1)
    assert several.parameters == one.parameters
    assert several.kv_bytes_per_token * 2 == one.kv_bytes_per_token
    assert several.decode[0].bytes_read_per_token < 0.4 * one.decode[0].bytes_read_per_token
