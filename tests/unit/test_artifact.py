"""Artifacts on disk: the same bytes every time, tensors where kernels can read them, written whole or not at all."""

import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import xxhash
import yaml
from checkpoints import raw_weights
from safetensors import safe_open
from safetensors.numpy import load_file
from small_model import SMALL

from ilmari.artifact import params
from ilmari.artifact.artifact import Artifact
from ilmari.artifact.manifest import SCHEMA_VERSION, Manifest, manifest_bytes, read_manifest
from ilmari.artifact.page_cache import HUGE_PAGE
from ilmari.artifact.quantization import CalibrationRecord, Quantization
from ilmari.artifact.writer import ArtifactWriter, FileWriter
from ilmari.errors import ArtifactError, OutputError
from ilmari.kernels.isa import ISAS
from ilmari.kernels.plan import Plan
from ilmari.kernels.scheme import SCHEMES
from ilmari.kernels.target import Target
from ilmari.model.config import DynamicNtk

MODEL = replace(
    SMALL,
    intermediate_size=37,
    num_hidden_layers=2,
    num_attention_heads=6,
    num_key_value_heads=2,
    head_dim=32,
    vocab_size=333,
    rope_scaling=DynamicNtk(2.0),
)
MANIFEST = Manifest(
    schema_version=SCHEMA_VERSION,
    ilmari_version="0.1.0",
    name="Väinämöinen 书生",
    model=MODEL,
    scheme="fp16",
    activation="float32",
    quantization=None,
    isa="generic",
    target=Target("x86-64", "x86_64", ()),
    max_prompt_len=32,
    max_seq_len=64,
    throughput=True,
    tp=1,
    files=(),
)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write(place: Path, data: bytes = b"data") -> None:
    """An artifact of one file."""
    with ArtifactWriter(place) as writer:
        with writer.open("params/rank0.safetensors") as file:
            file.write(data)
        writer.finish(replace(MANIFEST, files=writer.records))


# The whole of it


def test_same_bytes(compile_tiny: Callable[..., Path], tiny_checkpoint: Path, tmp_path: Path) -> None:
    """In this process, and in one whose hashes, folder and temporary folder differ."""
    first = compile_tiny("w8a16")
    keys = {
        "name": first.name,
        "frontend": {"checkpoint": str(tiny_checkpoint), "shape": {"input_ids": [[128], [256]]}},
        "backend": {"dtype": "int8"},
        "workspace": {"path": "."},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(keys), encoding="utf-8")
    environment = os.environ | {"PYTHONHASHSEED": "20240704", "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "ilmari", "compile", "recipe.yaml"]
    subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=True)
    assert content(tmp_path / first.name) == content(first)


def test_records_are_of_the_files(tiny_artifact: Path) -> None:
    artifact = Artifact.load(tiny_artifact)
    files = content(tiny_artifact)
    assert {record.path for record in artifact.manifest.files} == files.keys() - {"manifest.json"}
    for record in artifact.manifest.files:
        data = files[record.path]
        assert record.size == len(data)
        assert record.sha256 == hashlib.sha256(data).hexdigest()
        assert record.xxh3 == xxhash.xxh3_128(data).hexdigest()
    assert artifact.files == {path: len(data) for path, data in files.items()}


def test_verify_counts_every_byte(tiny_artifact: Path) -> None:
    seen: list[tuple[int, int]] = []
    Artifact.open(tiny_artifact).verify(lambda done, total: seen.append((done, total)))
    total = sum(len(data) for path, data in content(tiny_artifact).items() if path != "manifest.json")
    assert seen[-1] == (total, total)
    assert seen == sorted(seen)


# Parameters


def test_params_by_another_reader(tiny_artifact: Path) -> None:
    """The safetensors library sees the tensors that kernels see, and each begins on a vector's boundary."""
    path = tiny_artifact / "params" / "rank0.safetensors"
    mapped = Artifact.load(tiny_artifact).params()
    read = load_file(path)
    assert list(mapped) == [shape.name for shape in read_manifest(tiny_artifact).plan.tensors]
    assert mapped.keys() == read.keys()
    for name, tensor in mapped.items():
        assert tensor.dtype == (np.uint16 if read[name].dtype == "bfloat16" else read[name].dtype)
        np.testing.assert_array_equal(tensor, read[name].view(tensor.dtype))
        assert tensor.ctypes.data % 64 == 0
        assert tensor.flags.c_contiguous


def test_params_are_the_checkpoint_s(tiny_artifact: Path, tiny_checkpoint: Path) -> None:
    """What is stored as it is, straight from the checkpoint; packing is the kernels' tests' affair."""
    packed, weights = load_file(tiny_artifact / "params" / "rank0.safetensors"), raw_weights(tiny_checkpoint)
    embedding = packed["embedding"]
    np.testing.assert_array_equal(embedding, weights["model.tok_embeddings.weight"].astype(embedding.dtype))
    np.testing.assert_array_equal(packed["norm"], weights["model.norm.weight"].astype(np.float32))
    np.testing.assert_array_equal(
        packed["layers.1.ffn_norm"], weights["model.layers.1.ffn_norm.weight"].astype(np.float32)
    )


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("sizes", [{}, {"vocab_size": 1, "num_hidden_layers": 1}, {"hidden_size": 32, "head_dim": 96}])
def test_header(tmp_path: Path, isa, scheme, sizes) -> None:  # type: ignore[no-untyped-def]
    """Whatever the sizes: one page-aligned block of data without holes, each tensor at a multiple of 64 bytes."""
    plan = Plan(replace(MODEL, **sizes), scheme, isa)
    header = params.header_bytes(plan)
    assert len(header) % 4096 == 0
    (length,) = struct.unpack("<Q", header[:8])
    assert length == len(header) - 8
    end = 0
    for entry in json.loads(header[8:]).values():
        begin, after = entry["data_offsets"]
        assert begin == end
        assert begin % 64 == 0
        end = after
    assert end == params.params_bytes(plan)

    path = tmp_path / "file.safetensors"
    path.write_bytes(header + bytes(end))
    with safe_open(path, "numpy") as file:
        for shape in plan.tensors:
            tensor = file.get_tensor(shape.name)
            assert (tensor.shape, tensor.dtype) == (shape.shape, np.dtype(shape.dtype))
    assert params.map_params(path, plan).keys() == {shape.name for shape in plan.tensors}


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"\0", lambda data: b"\1" + data[1:]])
def test_other_params(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "file.safetensors"
    header = params.header_bytes(MANIFEST.plan)
    path.write_bytes(change(header + bytes(params.params_bytes(MANIFEST.plan))))
    with pytest.raises(ArtifactError, match=r"file\.safetensors .*compile the model again"):
        params.map_params(path, MANIFEST.plan)


# Manifest


@pytest.mark.parametrize("scaling", [None, DynamicNtk(2.5)])
@pytest.mark.parametrize("record", [None, CalibrationRecord("c4", 128, 512, 65_536, 0.01, True, False)])
def test_manifest_comes_back(tmp_path: Path, scaling: DynamicNtk | None, record: CalibrationRecord | None) -> None:
    quantization = Quantization("gptq", "round to nearest", record)
    manifest = replace(MANIFEST, model=replace(MODEL, rope_scaling=scaling), quantization=quantization)
    (tmp_path / "manifest.json").write_bytes(manifest_bytes(manifest))
    assert read_manifest(tmp_path) == manifest


def test_manifest_is_for_people_too() -> None:
    text = manifest_bytes(MANIFEST).decode()
    assert text.startswith('{\n  "schema_version": 6,\n')
    assert '"name": "Väinämöinen 书生"' in text
    fields = json.loads(text)
    digest = fields.pop("digest")
    assert digest == hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


# Writing


def test_nothing_is_there_until_all_is(tmp_path: Path) -> None:
    place = tmp_path / "new" / "model"
    with ArtifactWriter(place) as writer:
        with writer.open("kernels.o") as file:
            file.write(b"one")
            file.write(memoryview(np.arange(3, dtype=np.int32)))  # type: ignore[arg-type]
        assert not place.exists()
        assert [(record.path, record.size) for record in writer.records] == [("kernels.o", 15)]
        writer.finish(replace(MANIFEST, files=writer.records))
    assert names(place.parent) == ["model"]
    assert content(place)["kernels.o"] == b"one" + np.arange(3, dtype=np.int32).tobytes()
    assert read_manifest(place).files[0].sha256 == hashlib.sha256(content(place)["kernels.o"]).hexdigest()


def test_files_are_written_by_huge_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is handed over, and read back it is the same."""
    rng = np.random.default_rng(7)
    data = rng.bytes(7 * HUGE_PAGE + 4321)
    ends = sorted({0, 1, HUGE_PAGE, len(data), *(int(end) for end in rng.integers(0, len(data), 9))})
    pieces: list[int] = []
    flush = FileWriter.flush

    def counting(writer: FileWriter) -> None:
        pieces.append(len(writer._piece))
        flush(writer)

    monkeypatch.setattr(FileWriter, "flush", counting)
    with ArtifactWriter(tmp_path / "place") as writer:
        with writer.open("data") as file:
            for begin, end in pairwise(ends):
                file.write(data[begin:end])
        assert writer.path("data").read_bytes() == data
        (record,) = writer.records
    assert pieces == [HUGE_PAGE] * 7 + [4321]
    assert (record.size, record.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert record.xxh3 == xxhash.xxh3_128_hexdigest(data)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_what_was_there(tmp_path: Path, error: type[BaseException]) -> None:
    write(tmp_path / "model", b"old")
    before = content(tmp_path)

    def fail() -> None:
        with ArtifactWriter(tmp_path / "model") as writer, writer.open("kernels.o") as file:
            file.write(b"new")
            raise error

    with pytest.raises(error):
        fail()
    assert content(tmp_path) == before
    assert names(tmp_path) == ["model"]


def test_the_new_takes_the_place_of_the_old(tmp_path: Path) -> None:
    write(tmp_path / "model", b"old")
    (tmp_path / "model" / "kernels.o").write_bytes(b"old alone")
    write(tmp_path / "model", b"new")
    assert content(tmp_path / "model").keys() == {"manifest.json", "params/rank0.safetensors"}
    assert content(tmp_path / "model")["params/rank0.safetensors"] == b"new"
    assert names(tmp_path) == ["model"]


def test_the_old_comes_back_if_the_new_cannot_take_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "model", b"old")
    rename = Path.rename

    def stumble(source: Path, target: Path) -> Path:
        if source.name == "new":
            raise PermissionError(1, "Operation not permitted")
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", stumble)
    with pytest.raises(OutputError, match=r"model cannot be written \(Operation not permitted\)"):
        write(tmp_path / "model", b"new")
    assert content(tmp_path / "model")["params/rank0.safetensors"] == b"old"
    assert names(tmp_path) == ["model"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    write(tmp_path / "far" / "model", b"old")
    (tmp_path / "model").symlink_to(tmp_path / "far" / "model")
    write(tmp_path / "model", b"new")
    assert (tmp_path / "model").is_symlink()
    assert content(tmp_path / "far" / "model")["params/rank0.safetensors"] == b"new"
    assert (names(tmp_path), names(tmp_path / "far")) == (["far", "model"], ["model"])


def left_over(parent: Path, name: str) -> Path:
    """What a killed writer leaves."""
    scratch = parent / name
    (scratch / "new").mkdir(parents=True)
    (scratch / "new" / "kernels.o").write_bytes(b"half")
    (scratch / "claim").write_bytes(b"")
    return scratch


def test_left_overs(tmp_path: Path) -> None:
    """Those of other folders, and what has no claim, are left alone."""
    others = [".model2.abcdefg1.partial", ".model.2.abcdefg1.partial", ".model.x.partial", ".model.abcdefg1.notes"]
    for name in [".model.abcdefg1.partial", *others]:
        left_over(tmp_path, name)
    (left_over(tmp_path, ".model.abcdefg2.partial") / "claim").unlink()
    write(tmp_path / "model")
    assert names(tmp_path) == sorted([*others, ".model.abcdefg2.partial", "model"])


def test_writers_that_run_are_left_alone(tmp_path: Path) -> None:
    """Even those with this process's id, as in two containers; the last to finish stays."""
    with ArtifactWriter(tmp_path / "model") as first:
        (scratch,) = tmp_path.iterdir()
        with first.open("kernels.o") as file:
            file.write(b"first")
        write(tmp_path / "model", b"second")
        assert names(tmp_path) == sorted([scratch.name, "model"])
        first.finish(replace(MANIFEST, files=first.records))
    assert names(tmp_path) == ["model"]
    assert content(tmp_path / "model")["kernels.o"] == b"first"


def test_without_locks_nothing_is_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    left_over(tmp_path, ".model.abcdefg1.partial")
    with ArtifactWriter(tmp_path / "model"):
        write(tmp_path / "model")
    assert names(tmp_path) == [".model.abcdefg1.partial", "model"]


def test_killed_between_two_renames(tmp_path: Path) -> None:
    """The next writer brings the older artifact back, even one that fails."""
    write(tmp_path / "model", b"old")
    (tmp_path / "model").rename(left_over(tmp_path, ".model.abcdefg1.partial") / "older")
    with pytest.raises(ValueError, match="late"), ArtifactWriter(tmp_path / "model"):
        raise ValueError("late")
    assert names(tmp_path) == ["model"]
    assert content(tmp_path / "model")["params/rank0.safetensors"] == b"old"


def test_killed_after_two_renames(tmp_path: Path) -> None:
    write(tmp_path / "model", b"new")
    shutil.copytree(tmp_path / "model", left_over(tmp_path, ".model.abcdefg1.partial") / "older")
    write(tmp_path / "model", b"newer")
    assert names(tmp_path) == ["model"]
    assert content(tmp_path / "model")["params/rank0.safetensors"] == b"newer"


def folder_of_notes(place: Path) -> None:
    place.mkdir()
    (place / "notes.txt").write_text("mine", encoding="utf-8")


def artifact_with_notes(place: Path) -> None:
    write(place)
    (place / "notes.txt").write_text("mine", encoding="utf-8")


@pytest.mark.parametrize("make", [folder_of_notes, artifact_with_notes, Path.mkdir, Path.touch])
def test_what_is_not_ours_stays(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """Whether it was there before, or came while the artifact was being written."""
    make(tmp_path / "model")
    before = content(tmp_path)
    with pytest.raises(OutputError, match=r"model exists and .*; move it away"):
        write(tmp_path / "model")
    assert content(tmp_path) == before
    assert names(tmp_path) == ["model"]

    with ArtifactWriter(tmp_path / "later") as writer:
        folder_of_notes(tmp_path / "later")
        with pytest.raises(OutputError, match=r"later exists and .*; move it away"):
            writer.finish(MANIFEST)
    assert content(tmp_path / "later") == {"notes.txt": b"mine"}
    assert names(tmp_path) == ["later", "model"]


def test_a_folder_put_aside_is_not_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another writer that takes the place between a look at the folder and its list leaves it empty."""
    write(tmp_path / "model", b"old")
    scandir = os.scandir

    def late(folder: int) -> object:
        monkeypatch.setattr(os, "scandir", scandir)
        write(tmp_path / "model", b"another's")
        assert os.listdir(folder) == []
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", late)
    write(tmp_path / "model", b"new")
    assert content(tmp_path / "model")["params/rank0.safetensors"] == b"new"
    assert names(tmp_path) == ["model"]


def test_many_writers_of_one_place(tmp_path: Path) -> None:
    """Each ends well, and what is there afterwards is one artifact, whole."""
    script = f"""
import sys
from pathlib import Path
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]!r}
from test_artifact import write

for count in range(100):
    write(Path({str(tmp_path / "model")!r}), sys.argv[1].encode() * 1000)
"""
    writers = [
        subprocess.Popen([sys.executable, "-W", "ignore", "-c", script, name], stderr=subprocess.PIPE, text=True)
        for name in "abc"
    ]
    ends = [writer.communicate()[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0, 0], ends
    assert names(tmp_path) == ["model"]
    (record,) = read_manifest(tmp_path / "model").files
    data = content(tmp_path / "model")[record.path]
    assert record.sha256 == hashlib.sha256(data).hexdigest()
    assert data in (b"a" * 1000, b"b" * 1000, b"c" * 1000)
