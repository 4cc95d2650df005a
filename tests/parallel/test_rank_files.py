"""An artifact for several ranks: a file of parameters for each, which is all of them that it needs."""

from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from checkpoints import CompileTiny, raw_weights

from ilmari.artifact.artifact import Artifact
from ilmari.artifact.summary import summarize
from ilmari.errors import ArtifactError


@pytest.fixture
def folder(compile_tiny: CompileTiny, tmp_path: Path) -> Path:
    """Two KV heads on three ranks, and 333 tokens on as many."""
    return copytree(compile_tiny("w8a16", tp=3), tmp_path / "model")


def test_names_and_digests(folder: Path) -> None:
    paths = [record.path for record in Artifact.load(folder).manifest.files]
    assert [path for path in paths if path.startswith("params/")] == [f"params/rank{n}.safetensors" for n in range(3)]
    assert sorted(str(path.relative_to(folder)) for path in folder.glob("params/*")) == paths[-4:-1]


def test_tokens_of_each_rank(folder: Path, tiny_checkpoint: Path) -> None:
    """The embedding is split, not copied; norms are on each rank."""
    artifact, weights = Artifact.load(folder), raw_weights(tiny_checkpoint)
    params = [artifact.params(rank) for rank in range(3)]
    together = np.concatenate([each["embedding"] for each in params])
    np.testing.assert_array_equal(together, weights["model.tok_embeddings.weight"])
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
    """Two KV heads of three query heads each on three ranks: one and its three on two of them, zeros on the third."""
    several, one = summarize(Artifact.open(folder)), summarize(Artifact.open(compile_tiny("w8a16")))
    assert (several.tp, one.tp) == (3, 1)
    assert several.parameters == one.parameters
    assert several.kv_bytes_per_token * 2 == one.kv_bytes_per_token
    assert several.decode[0].bytes_read_per_token < 0.6 * one.decode[0].bytes_read_per_token
