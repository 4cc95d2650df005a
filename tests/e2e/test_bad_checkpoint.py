"""Checkpoints that are incomplete, damaged or hostile: exit code 2, one sentence, and no artifact."""

import json
import shutil
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import edit_config, raw_weights, write_json, write_weights
from commands import ilmari
from refusals import Workplace, assert_one_error, content, ilmari_here

pytestmark = pytest.mark.usefixtures("kernels_compiled_once")

FILE = "model.safetensors"
INDEX = "model.safetensors.index.json"
SECOND = "model-00002-of-00003.safetensors"
HEAD = "output.weight"
NORM = "model.norm.weight"


@pytest.fixture
def workplace(tmp_path: Path, tiny_checkpoint: Path) -> Workplace:
    return Workplace.make(tmp_path, tiny_checkpoint)


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Write the weights again, after `edit`."""
    tensors: dict[str, Any] = raw_weights(folder)
    edit(tensors)
    write_weights(folder, tensors)


def change_header(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Write the header again, after `edit`, and leave the data as it is."""
    data = (folder / FILE).read_bytes()
    end = 8 + struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:end])
    edit(header)
    write_header(folder, json.dumps(header).encode(), data[end:])


def write_header(folder: Path, header: bytes, data: bytes) -> None:
    (folder / FILE).write_bytes(struct.pack("<Q", len(header)) + header + data)


def change_json(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads(path.read_text(encoding="utf-8"))
    edit(value)
    write_json(path, value)


def change_tokenizer(folder: Path, **settings: object) -> None:
    change_json(folder / "tokenizer_config.json", lambda value: value.update(settings))


def to_shards(folder: Path) -> Path:
    """Deal the weights out to three files; the index's path."""
    tensors = raw_weights(folder)
    (folder / FILE).unlink()
    write_weights(folder, tensors, shards=3)
    return folder / INDEX


def lose_shard(folder: Path) -> None:
    to_shards(folder)
    (folder / SECOND).unlink()


def list_absent_tensor(folder: Path) -> None:
    change_json(to_shards(folder), lambda index: index["weight_map"].update({"more.weight": SECOND}))


def lead_out_of_the_folder(folder: Path) -> None:
    change_json(to_shards(folder), lambda index: index["weight_map"].update({HEAD: f"../{FILE}"}))


def repeat_tensor(folder: Path) -> None:
    shutil.copy(folder / FILE, folder / "whole")
    to_shards(folder)
    shutil.copy(folder / "whole", folder / SECOND)


def repeat_key(folder: Path) -> None:
    write_header(folder, b'{"output.weight":0,"output.weight":1}', b"")


def truncate(folder: Path, size: int) -> None:
    (folder / FILE).write_bytes((folder / FILE).read_bytes()[:size])


def to_pickle(folder: Path) -> None:
    (folder / FILE).rename(folder / "pytorch_model.bin")


def spoil(name: str, value: float) -> Callable[[Path], None]:
    """One number of one tensor; float32, so that it can be large."""

    def edit(tensors: dict[str, Any]) -> None:
        tensors[name] = tensors[name].astype(np.float32)
        tensors[name].flat[-1] = value

    return lambda folder: change(folder, edit)


def entry(name: str, **fields: object) -> Callable[[Path], None]:
    return lambda folder: change_header(folder, lambda header: header[name].update(fields))


def overlap(folder: Path) -> None:
    change_header(
        folder, lambda header: header[HEAD].update(data_offsets=header["model.tok_embeddings.weight"]["data_offsets"])
    )


def template(source: str) -> Callable[[Path], None]:
    return lambda folder: change_tokenizer(folder, chat_template=source)


def cut_template_of_specials(folder: Path) -> None:
    """A post-processor that names a token which it does not define: the library panics."""
    change_json(folder / "tokenizer.json", lambda value: value["post_processor"].update(special_tokens={}))


def lift_id(folder: Path) -> None:
    change_json(folder / "tokenizer.json", lambda value: value["model"]["vocab"].update({"more": 333}))


Damage = Callable[[Path], object]

CASES: Mapping[str, tuple[Damage, tuple[str, ...]]] = {
    "no config": (lambda f: (f / "config.json").unlink(), ("config.json is missing",)),
    "config without a key": (
        lambda f: change_json(f / "config.json", lambda config: config.pop("rms_norm_eps")),
        ("config.json", "the key 'rms_norm_eps' is missing"),
    ),
    "config with a wrong type": (
        lambda f: edit_config(f, num_hidden_layers="2"),
        ("config.json", "'num_hidden_layers' is '2'", "an integer from 1"),
    ),
    "other architecture": (
        lambda f: edit_config(f, architectures=["LlamaForCausalLM"]),
        ("config.json", "'LlamaForCausalLM', which ilmari does not know", "supported: InternLM2ForCausalLM"),
    ),
    "architecture to come": (
        lambda f: edit_config(f, architectures=["InternLM3ForCausalLM"]),
        ("InternLM3ForCausalLM", "not supported yet"),
    ),
    "no weights": (lambda f: (f / FILE).unlink(), (f"holds neither {FILE} nor {INDEX}",)),
    "only pickles": (to_pickle, ("pytorch_model.bin", "which ilmari never reads", "save_pretrained")),
    "missing shard": (lose_shard, (f"{SECOND} is missing", INDEX)),
    "absent tensor in the index": (list_absent_tensor, (INDEX, "'more.weight'", SECOND, "not there")),
    "index that leads out": (lead_out_of_the_folder, (INDEX, f"'{HEAD}'", f"'../{FILE}'", "plain name")),
    "tensor in two shards": (repeat_tensor, ("is both in", SECOND)),
    "tensor twice in a file": (repeat_key, (FILE, f"'{HEAD}' occurs twice")),
    "missing tensor": (lambda f: change(f, lambda tensors: tensors.pop(NORM)), (f"'{NORM}' is missing",)),
    "wrong shape": (
        lambda f: change(f, lambda tensors: tensors.update({HEAD: tensors[HEAD][:-1]})),
        (f"'{HEAD}' has shape [332, 384]", "config.json asks for [333, 384]"),
    ),
    "wrong dtype": (
        lambda f: change(f, lambda tensors: tensors.update({HEAD: tensors[HEAD].astype(np.int8)})),
        (FILE, f"'{HEAD}' has dtype 'I8'", "F16, BF16, F32 is expected"),
    ),
    "empty file": (lambda f: truncate(f, 0), (FILE, "truncated: 0 bytes")),
    "truncated data": (lambda f: truncate(f, -1), (FILE, "ends at byte", "it is truncated")),
    "header beyond the file": (lambda f: truncate(f, 100), (FILE, "its header takes", "the file has 100")),
    "huge header": (
        lambda f: (f / FILE).write_bytes(b"\xff" * 64),
        (FILE, "announces a header of 18,446,744,073,709,551,615 bytes"),
    ),
    "offsets beyond the file": (
        entry(NORM, data_offsets=[1 << 40, (1 << 40) + 768]),
        (FILE, f"'{NORM}' ends at byte", "but the file has"),
    ),
    "offsets backwards": (entry(NORM, data_offsets=[768, 0]), (FILE, f"'{NORM}' has data_offsets [768, 0]")),
    "overlap": (overlap, (FILE, HEAD, "overlap")),
    "embedding beyond float16": (
        spoil("model.tok_embeddings.weight", -70000.0),
        ("checkpoint: the embedding holds 7e+04", "float16, ending at 65504"),
    ),
    "no tokenizer": (
        lambda f: (f / "tokenizer.json").unlink(),
        ("has no tokenizer", "neither tokenizer.model nor tokenizer.json"),
    ),
    "no tokenizer settings": (
        lambda f: (f / "tokenizer_config.json").unlink(),
        ("tokenizer_config.json is missing",),
    ),
    "truncated tokenizer": (
        lambda f: (f / "tokenizer.json").write_bytes((f / "tokenizer.json").read_bytes()[:-9]),
        ("tokenizer.json is not valid JSON",),
    ),
    "tokenizer of another kind": (
        lambda f: change_json(f / "tokenizer.json", lambda value: value["model"].update(type="Other")),
        ("tokenizer.json is not a tokenizer",),
    ),
    "tokenizer that panics": (cut_template_of_specials, ("tokenizer.json is not a tokenizer",)),
    "damaged SentencePiece model": (
        lambda f: (f / "tokenizer.model").write_bytes(b"\x0a\xff"),
        ("tokenizer.model",),
    ),
    "token id beyond the vocabulary": (lift_id, ("tokenizer.json has token id 333", "ends at 332")),
    "unknown end of text": (
        lambda f: change_tokenizer(f, eos_token="<end>"),
        ("tokenizer_config.json", "eos_token is '<end>'"),
    ),
    "template with a syntax error": (template("{% for m in %}"), ("tokenizer_config.json", "chat_template", "line 1")),
    "template that reaches out": (
        template("{{ ''.__class__.__mro__[1].__subclasses__() }}"),
        ("tokenizer_config.json", "the chat template", "unsafe"),
    ),
    "template that grows": (
        template("{% for i in range(9999999) %}x{% endfor %}"),
        ("tokenizer_config.json", "the chat template", "its ranges count beyond"),
    ),
}


@pytest.mark.parametrize(("damage", "words"), CASES.values(), ids=CASES)
def test_checkpoint(workplace: Workplace, damage: Damage, words: tuple[str, ...]) -> None:
    damage(workplace.checkpoint)
    assert_one_error(ilmari_here("compile", workplace.recipe), str(workplace.checkpoint), *words)
    workplace.assert_nothing_made()


def test_as_a_process(workplace: Workplace) -> None:
    lose_shard(workplace.checkpoint)
    assert_one_error(ilmari("compile", workplace.recipe), f"{SECOND} is missing")
    workplace.assert_nothing_made()


def test_nan_while_an_older_artifact_is_there(workplace: Workplace, compile_tiny: Callable[..., Path]) -> None:
    """A mistake that shows last of all, when the new artifact is nearly whole."""
    older = compile_tiny("fp16")
    shutil.copytree(older, workplace.artifact)
    spoil(HEAD, np.nan)(workplace.checkpoint)
    result = ilmari_here("compile", workplace.recipe)
    assert_one_error(result, f"{workplace.checkpoint / FILE}: tensor '{HEAD}' holds NaN or infinite values")
    assert content(workplace.artifact) == content(older)
    assert list(workplace.artifact.parent.iterdir()) == [workplace.artifact]
