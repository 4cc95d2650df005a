"""Where a calibration keeps what it has done: one user at a time, nothing stale, nothing half written."""

import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from checkpoints import write_checkpoint

from ilmari.artifact.quantization import ProjectionErrors
from ilmari.checkpoint.checkpoint import Checkpoint
from ilmari.compile.config import Gptq
from ilmari.compile.quantized_layer import QuantizedLayer
from ilmari.compile.samples import fingerprint
from ilmari.compile.work_folder import WorkFolder
from ilmari.errors import OutputError
from ilmari.quant.weight import ScaledWeight

PRINT = {"weights": "a", "samples": [1, 2]}
HIDDEN = np.arange(12, dtype=np.float32).reshape(3, 4)
ERRORS = (ProjectionErrors(0, "q", 0.1, 0.2, 0.3, 0.4, 0.5), ProjectionErrors(0, "k", 1 / 3))
LAYER = QuantizedLayer(
    np.ones(4, np.float32),
    np.full(4, 2, np.float32),
    {name: ScaledWeight(np.arange(8, dtype=np.int8).reshape(2, 4), np.ones(2, np.float32)) for name in ("qkv", "o")},
    ERRORS,
)


class InterruptionError(Exception):
    """What ends a compilation before its time."""


def interrupted(place: Path, layers: int) -> WorkFolder:
    """The folder of a calibration that was interrupted after so many layers, of three."""
    work = WorkFolder(place)
    with suppress(InterruptionError), work:
        work.begin(PRINT)
        work.write_samples([np.array([1, 2, 3], np.int32), np.array([4], np.int32)])
        for index in range(layers):
            work.write_layer(index, LAYER)
            if index < 2:
                work.write_hidden(index + 1, HIDDEN + index)
        raise InterruptionError
    return work


@pytest.mark.parametrize("layers", [0, 1, 2, 3])
def test_goes_on(tmp_path: Path, layers: int) -> None:
    interrupted(tmp_path / "artifact", layers)
    with WorkFolder(tmp_path / "artifact") as work:
        work.begin(PRINT)
        assert [sample.tolist() for sample in work.samples()] == [[1, 2, 3], [4]]
        assert work.layers_done(3) == layers
        if layers in (1, 2):
            assert np.array_equal(work.hidden(layers), HIDDEN + layers - 1)
        for found in map(work.layer, range(layers)):
            assert found.errors == ERRORS
            assert np.array_equal(found.ffn_norm, LAYER.ffn_norm)
            assert found.linears.keys() == {"qkv", "o"}
            assert np.array_equal(found.linears["o"].values, LAYER.linears["o"].values)
            assert found.linears["o"].values.dtype == np.int8
    assert list(tmp_path.iterdir()) == [], "a success leaves nothing"


def test_layer_without_its_outputs_is_quantized_again(tmp_path: Path) -> None:
    work = interrupted(tmp_path / "artifact", 1)
    with suppress(InterruptionError), work:
        work.begin(PRINT)
        work.write_layer(1, LAYER)
        (work.folder / "partial-hidden-2").write_bytes(b"half")
        raise InterruptionError
    with work:
        work.begin(PRINT)
        assert work.layers_done(3) == 1


def test_other_fingerprint(tmp_path: Path) -> None:
    interrupted(tmp_path / "artifact", 2)
    with WorkFolder(tmp_path / "artifact") as work:
        work.begin(PRINT | {"weights": "b"})
        assert not work.has_samples
        assert work.layers_done(3) == 0
        assert sorted(path.name for path in work.folder.iterdir()) == ["fingerprint", "lock"]


def test_fingerprint(tmp_path: Path) -> None:
    """It changes with every weight, setting and sample, and with nothing else."""
    sizes = {"layers": 1, "heads": 1, "kv_heads": 1, "head_dim": 32, "intermediate": 32, "vocab": 20}
    checkpoints = [Checkpoint.open(write_checkpoint(tmp_path / str(seed), seed=seed % 2, **sizes)) for seed in range(3)]
    samples = [np.array([1, 2], np.int32), np.array([3], np.int32)]
    split = [np.array([1], np.int32), np.array([2, 3], np.int32)]
    prints = [
        fingerprint(checkpoints[0], asdict(Gptq()), samples),
        fingerprint(checkpoints[1], asdict(Gptq()), samples),
        fingerprint(checkpoints[0], asdict(Gptq(act_order=False)), samples),
        fingerprint(checkpoints[0], asdict(Gptq()), split),
        fingerprint(checkpoints[0], asdict(Gptq()), None),
    ]
    assert len({json.dumps(each, sort_keys=True) for each in prints}) == len(prints)
    assert fingerprint(checkpoints[2], asdict(Gptq()), samples) == prints[0]


def test_nothing_done_leaves_nothing(tmp_path: Path) -> None:
    with suppress(InterruptionError), WorkFolder(tmp_path / "artifact") as work:
        work.begin(PRINT)
        raise InterruptionError
    assert list(tmp_path.iterdir()) == []


def test_one_at_a_time(tmp_path: Path) -> None:
    with WorkFolder(tmp_path / "artifact"), pytest.raises(OutputError, match="in use by another compilation"):
        WorkFolder(tmp_path / "artifact").__enter__()
    with WorkFolder(tmp_path / "artifact") as work:
        work.begin(PRINT)


def read_all(work: WorkFolder) -> None:
    with work:
        work.begin(PRINT)
        work.samples()
        work.hidden(2)
        work.layer(0)
        work.layer(1)


@pytest.mark.parametrize("name", ["layer-0", "hidden-2", "samples"])
@pytest.mark.parametrize("damage", [b"", b"no tensors", None])
def test_damage(tmp_path: Path, name: str, damage: bytes | None) -> None:
    work = interrupted(tmp_path / "artifact", 2)
    path = work.folder / name
    path.write_bytes(path.read_bytes()[:-1] if damage is None else damage)
    with pytest.raises(OutputError, match=f"{name} is damaged .*; remove .*artifact.calibration"):
        read_all(work)
