"""Folders that are incomplete, contradictory, damaged or hostile: one clear sentence for each."""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import (
    ODD_SIZES,
    assert_one_sentence,
    edit_config,
    raw_weights,
    write_checkpoint,
    write_json,
    write_weights,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from ilmari.checkpoint.checkpoint import Checkpoint
from ilmari.checkpoint.safetensors import SafetensorsFile
from ilmari.errors import CheckpointError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "model", **ODD_SIZES)


def drop(folder: Path, *names: str) -> None:
    write_weights(folder, {name: tensor for name, tensor in raw_weights(folder).items() if name not in names})


def add(folder: Path, **tensors: np.ndarray) -> None:
    write_weights(folder, raw_weights(folder) | {name.replace("__", "."): tensor for name, tensor in tensors.items()})


def edit_header(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Rewrite the header of model.safetensors and keep the data as it is."""
    path = folder / "model.safetensors"
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    edit(header)
    write_raw(path, json.dumps(header).encode(), data[8 + length :])


def write_raw(path: Path, header: bytes, data: bytes = b"") -> None:
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)


def overwrite(folder: Path, content: bytes) -> None:
    (folder / "model.safetensors").write_bytes(content)


def to_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model-00001-of-00002.bin")


def set_entry(name: str, **changes: object) -> Callable[[Path], None]:
    return lambda folder: edit_header(folder, lambda header: header[name].update(changes))


def overlap(folder: Path) -> None:
    def edit(header: dict[str, Any]) -> None:
        header["output.weight"]["data_offsets"] = header["model.tok_embeddings.weight"]["data_offsets"]

    edit_header(folder, edit)


BAD_FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), r"config\.json is missing"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), r"neither model\.safetensors nor"),
    "only pickles": (to_pickle, r"pytorch_model-00001-of-00002\.bin\), which ilmari never reads.*save_pretrained"),
    "single and index": (
        lambda f: write_json(f / "model.safetensors.index.json", {"weight_map": {}}),
        r"both model\.safetensors and model\.safetensors\.index\.json",
    ),
    "missing tensor": (lambda f: drop(f, "model.norm.weight"), r"'model\.norm\.weight' is missing \(1 in all\)"),
    "missing layer": (lambda f: edit_config(f, num_hidden_layers=3), r"'model\.layers\.2\.[\w.]+' is missing \(7 in"),
    "surplus layer": (
        lambda f: edit_config(f, num_hidden_layers=1),
        r"'model\.layers\.1\.[\w.]+' does not belong to InternLM2ForCausalLM with num_hidden_layers 1",
    ),
    "unknown tensor": (lambda f: add(f, v_head__weight=np.ones(3, np.float16)), r"'v_head\.weight' does not belong"),
    "bias": (
        lambda f: add(f, model__layers__0__attention__wo__bias=np.ones(96, np.float16)),
        r"'model\.layers\.0\.attention\.wo\.bias' does not belong",
    ),
    "other shape": (
        lambda f: edit_config(f, intermediate_size=41),
        r"feed_forward\.w\d\.weight' has shape \[.*40.*\], but config\.json asks for \[.*41.*\]",
    ),
    "transposed": (
        lambda f: add(f, output__weight=np.ones((96, 37), np.float16)),
        r"'output\.weight' has shape \[96, 37\], but config\.json asks for \[37, 96\]",
    ),
    "float64": (lambda f: add(f, output__weight=np.ones((37, 96))), r"'output\.weight' has dtype 'F64'"),
    "int8": (lambda f: add(f, output__weight=np.ones((37, 96), np.int8)), r"'output\.weight' has dtype 'I8'"),
    "tied with a head": (
        lambda f: edit_config(f, tie_word_embeddings=True),
        r"'tie_word_embeddings' is true, but there is a tensor 'output\.weight'",
    ),
    "untied without a head": (lambda f: drop(f, "output.weight"), r"'output\.weight' is missing"),
    "empty file": (lambda f: overwrite(f, b""), r"truncated: 0 bytes"),
    "seven bytes": (lambda f: overwrite(f, b"\1\0\0\0\0\0\0"), r"truncated: 7 bytes"),
    "zeros": (lambda f: overwrite(f, bytes(4096)), r"not a safetensors file: it announces a header of 0 bytes"),
    "huge header": (lambda f: overwrite(f, b"\xff" * 4096), r"announces a header of 18,446,744,073,709,551,615 bytes"),
    "cut header": (
        lambda f: overwrite(f, (f / "model.safetensors").read_bytes()[:100]),
        r"truncated: its header takes [\d,]+ bytes and the file has 100",
    ),
    "cut data": (
        lambda f: overwrite(f, (f / "model.safetensors").read_bytes()[:-1]),
        r"tensor '[\w.]+' ends at byte [\d,]+, but the file has [\d,]+: it is truncated",
    ),
    "zeros for a header": (
        lambda f: write_raw(f / "model.safetensors", bytes(64), bytes(64)),
        r"the header of .*model\.safetensors is not valid JSON",
    ),
    "header is a list": (lambda f: write_raw(f / "model.safetensors", b"[]"), r"a JSON list"),
    "repeated tensor": (lambda f: write_raw(f / "model.safetensors", b'{"a":1,"a":2}'), r"'a' occurs twice"),
    "entry is a number": (
        lambda f: write_raw(f / "model.safetensors", b'{"a":1}'),
        r"tensor 'a' is described by 1, but exactly dtype, shape and data_offsets",
    ),
    "unknown dtype": (set_entry("output.weight", dtype="F12"), r"'output\.weight' has dtype 'F12'"),
    "dtype is a list": (set_entry("output.weight", dtype=["F16"]), r"'output\.weight' has dtype \['F16'\]"),
    "negative size": (set_entry("output.weight", shape=[-37, -96]), r"'output\.weight' has shape \[-37, -96\]"),
    "size is a bool": (set_entry("model.norm.weight", shape=[True]), r"'model\.norm\.weight' has shape \[True\]"),
    "shape is long": (set_entry("output.weight", shape=[1] * 9), r"'output\.weight' has shape"),
    "wrong span": (
        set_entry("output.weight", shape=[37, 95]),
        r"'output\.weight' spans 7,104 bytes, but F16 of shape \[37, 95\] takes 7,030",
    ),
    "reversed offsets": (set_entry("output.weight", data_offsets=[9, 3]), r"'output\.weight' has data_offsets \[9, 3"),
    "three offsets": (set_entry("output.weight", data_offsets=[0, 1, 2]), r"'output\.weight' has data_offsets"),
    "offsets far outside": (
        set_entry("output.weight", data_offsets=[2**62, 2**62 + 7104]),
        r"'output\.weight' ends at byte [\d,]+, but the file has",
    ),
    "surplus field": (set_entry("output.weight", scale=1), r"'output\.weight' is described by"),
    "overlap": (overlap, r"the tensors '[\w.]+' and '[\w.]+' overlap"),
}


@pytest.mark.parametrize(("damage", "message"), BAD_FOLDERS.values(), ids=BAD_FOLDERS)
def test_a_bad_folder(folder: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(folder)
    with pytest.raises(CheckpointError, match=message) as caught:
        Checkpoint.open(folder)
    assert str(folder) in str(caught.value)
    assert_one_sentence(caught.value)


SECOND = "model-00002-of-00003.safetensors"
THIRD = "model-00003-of-00003.safetensors"
FIRST_NORM = "model.layers.0.attention_norm.weight"  # second in order of writing, so in the second shard


def edit_index(folder: Path, **entries: str | None) -> None:
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    for name, shard in entries.items():
        index["weight_map"][name.replace("__", ".")] = shard
    index["weight_map"] = {name: shard for name, shard in index["weight_map"].items() if shard is not None}
    write_json(path, index)


def add_to_shard(folder: Path, shard: str, tensors: dict[str, np.ndarray]) -> None:
    raw = raw_weights(folder)
    kept = {name: raw[name] for name in SafetensorsFile.open(folder / shard).tensors}
    save_file(kept | tensors, folder / shard)


BAD_SHARDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing shard": (lambda f: (f / SECOND).unlink(), rf"{SECOND} is missing"),
    "parent folder": (lambda f: edit_index(f, output__weight="../x.safetensors"), r"'output\.weight' is said to be in"),
    "absolute path": (lambda f: edit_index(f, output__weight="/x.safetensors"), r"'output\.weight' is said to be in"),
    "backslash": (lambda f: edit_index(f, output__weight="..\\x.safetensors"), r"'output\.weight' is said to be in"),
    "a pickle": (lambda f: edit_index(f, output__weight="pytorch_model.bin"), r"'output\.weight' is said to be in"),
    "listed, not there": (
        lambda f: edit_index(f, x__weight=SECOND),
        rf"index\.json: tensor 'x\.weight' is said to be in {SECOND}, but it is not there",
    ),
    "in another shard": (
        lambda f: edit_index(f, **{FIRST_NORM: THIRD}),
        rf"tensor '{FIRST_NORM}' is said to be in {THIRD}, but it is not there",
    ),
    "in two shards": (
        lambda f: add_to_shard(f, THIRD, {FIRST_NORM: np.ones(96, np.float16)}),
        rf"tensor '{FIRST_NORM}' is both in {SECOND} and in {THIRD}",
    ),
    "not listed": (
        lambda f: edit_index(f, **{FIRST_NORM: None}),
        rf"{SECOND}: tensor '{FIRST_NORM}' is in this shard but not in model\.safetensors\.index\.json",
    ),
    "truncated shard": (lambda f: os.truncate(f / THIRD, 2000), rf"{THIRD}: tensor '[\w.]+' ends at byte"),
    "no weight map": (lambda f: write_json(f / "model.safetensors.index.json", {}), r"'weight_map' is missing"),
    "weight map is a list": (
        lambda f: write_json(f / "model.safetensors.index.json", {"weight_map": ["a"]}),
        r"'weight_map' is missing or not an object",
    ),
    "index is not JSON": (
        lambda f: (f / "model.safetensors.index.json").write_text("{"),
        r"index\.json is not valid JSON",
    ),
}


@pytest.mark.parametrize(("damage", "message"), BAD_SHARDS.values(), ids=BAD_SHARDS)
def test_bad_shards(tmp_path: Path, damage: Callable[[Path], object], message: str) -> None:
    folder = write_checkpoint(tmp_path / "model", **ODD_SIZES, shards=3)
    damage(folder)
    with pytest.raises(CheckpointError, match=message) as caught:
        Checkpoint.open(folder)
    assert str(folder) in str(caught.value)
    assert_one_sentence(caught.value)


def test_a_hub_id_is_not_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"does not download.*`hf download internlm/internlm2-7b --local-dir"):
        Checkpoint.open(Path("internlm/internlm2-7b"))


def test_an_absent_folder_and_a_file(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"/absent does not exist, and ilmari does not download"):
        Checkpoint.open(tmp_path / "absent")
    with pytest.raises(CheckpointError, match=r"config\.json is a file; give the checkpoint folder"):
        Checkpoint.open(folder / "config.json")
    with pytest.raises(CheckpointError, match=r"does not exist|cannot be opened"):
        Checkpoint.open(Path("a\0b"))
    with pytest.raises(CheckpointError, match=r"does not exist|cannot be opened"):
        Checkpoint.open(Path("x" * 5000))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 2500), value=st.binary(min_size=1, max_size=12))
def test_any_damage_to_a_header_is_an_error_or_harmless(tmp_path: Path, place: int, value: bytes) -> None:
    """Whatever bytes stand in the header, opening and reading either works or raises CheckpointError."""
    folder = tmp_path / "model"
    if not folder.exists():
        write_checkpoint(folder, **ODD_SIZES)
        (tmp_path / "whole").write_bytes((folder / "model.safetensors").read_bytes())
    data = bytearray((tmp_path / "whole").read_bytes())
    data[place : place + len(value)] = value
    overwrite(folder, bytes(data))
    try:
        checkpoint = Checkpoint.open(folder)
        checkpoint.layer(0)
    except CheckpointError as error:
        assert_one_sentence(error)
