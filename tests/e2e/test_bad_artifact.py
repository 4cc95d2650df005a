"""Folders that are no artifact, not as they were written, or made for another machine: exit code 2 and one sentence."""

import platform
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from commands import Result, ilmari
from damaged_artifact import MANIFEST, PARAMS, read_manifest, rewrite, seal, write_manifest
from refusals import assert_one_error, ilmari_here

from ilmari.artifact.manifest import SCHEMA_VERSION

FILES = (
    "kernels.o",
    PARAMS,
    "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/chat_template.jinja",
)


@pytest.fixture
def artifact(compile_tiny: Callable[..., Path], tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(compile_tiny("fp16"), tmp_path / "copy"))


def generate(artifact: Path) -> Result:
    return ilmari_here("generate", "--model", artifact, "--prompt", "x", "--max-tokens", "1")


def verify(artifact: Path) -> Result:
    return ilmari_here("verify", artifact)


RUN_AND_VERIFY = pytest.mark.parametrize("command", [generate, verify])
Command = Callable[[Path], Result]
Damage = Callable[[Path], object]


def test_whole(artifact: Path) -> None:
    """The copy, the seals and the commands are themselves in order."""
    seal(artifact)
    assert generate(artifact).returncode == 0
    assert verify(artifact).returncode == 0


def no_folder(artifact: Path) -> None:
    shutil.rmtree(artifact)


def empty_folder(artifact: Path) -> None:
    shutil.rmtree(artifact)
    artifact.mkdir()


def a_file(artifact: Path) -> None:
    shutil.rmtree(artifact)
    artifact.write_bytes(b"")


def checkpoint_instead(artifact: Path) -> None:
    (artifact / MANIFEST).unlink()
    (artifact / "config.json").write_text("{}", encoding="utf-8")


def manifest_text(content: bytes) -> Damage:
    return lambda artifact: (artifact / MANIFEST).write_bytes(content)


def truncate_manifest(artifact: Path) -> None:
    content = (artifact / MANIFEST).read_bytes()
    (artifact / MANIFEST).write_bytes(content[: len(content) // 2])


def edit_manifest(artifact: Path) -> None:
    text = (artifact / MANIFEST).read_text(encoding="utf-8")
    (artifact / MANIFEST).write_text(text.replace('"max_seq_len": 256', '"max_seq_len": 512'), encoding="utf-8")


def sealed(**fields: object) -> Damage:
    """A manifest with other values, as if it had been written like that."""
    return lambda artifact: write_manifest(artifact, read_manifest(artifact) | fields)


def sealed_without(field: str) -> Damage:
    def damage(artifact: Path) -> None:
        fields = read_manifest(artifact)
        del fields[field]
        write_manifest(artifact, fields)

    return damage


def sealed_record(**changes: object) -> Damage:
    """The first file's record with other values."""

    def damage(artifact: Path) -> None:
        fields = read_manifest(artifact)
        fields["files"][0].update(changes)
        write_manifest(artifact, fields)

    return damage


NO_ARTIFACT: Mapping[str, tuple[Damage, tuple[str, ...]]] = {
    "no folder": (no_folder, ("copy is not a compiled model: it does not exist", "`ilmari compile CONFIG.yaml`")),
    "empty folder": (empty_folder, ("copy is not a compiled model: it has no manifest.json",)),
    "a file": (a_file, ("copy is not a compiled model: it is a file",)),
    "checkpoint": (checkpoint_instead, ("copy is a Hugging Face checkpoint", "compile it first")),
    "truncated manifest": (truncate_manifest, ("manifest.json is damaged: it is not a whole manifest",)),
    "empty manifest": (manifest_text(b""), ("manifest.json is damaged",)),
    "manifest that is no text": (manifest_text(b"\xff\xfe\x00"), ("manifest.json is damaged",)),
    "manifest that is a list": (manifest_text(b"[1]"), ("manifest.json is damaged",)),
    "manifest of something else": (manifest_text(b'{"name": "page"}'), ("manifest.json is damaged",)),
    "bottomless manifest": (manifest_text(b"[" * 100_000), ("manifest.json is damaged",)),
    "edited manifest": (edit_manifest, ("manifest.json was altered since it was written",)),
    "other schema": (
        sealed(schema_version=3),
        (
            "manifest.json has schema version 3",
            f"this ilmari reads version {SCHEMA_VERSION}",
            "install the version that made it",
        ),
    ),
    "schema of no version": (sealed(schema_version="1"), ("manifest.json has schema version '1'",)),
    "text for a number": (sealed(max_seq_len="256"), ("manifest.json is malformed: `max_seq_len` cannot be '256'",)),
    "no length": (sealed(max_prompt_len=0), ("`max_prompt_len` cannot be 0",)),
    "missing field": (sealed_without("target"), ("manifest.json is malformed: `target` is missing",)),
    "unknown scheme": (sealed(scheme="w2a2"), ("`scheme` cannot be 'w2a2'",)),
    "unknown kernels": (sealed(isa="amx"), ("`isa` cannot be 'amx'",)),
    "model of another type": (sealed(model=[]), ("manifest.json is malformed: `model` cannot be []",)),
    "path upwards": (sealed_record(path="../../etc/passwd"), ("`files.0.path` cannot be '../../etc/passwd'",)),
    "path upwards within": (sealed_record(path="params/../x"), ("`files.0.path` cannot be 'params/../x'",)),
    "absolute path": (sealed_record(path="/etc/passwd"), ("`files.0.path` cannot be '/etc/passwd'",)),
    "size below zero": (sealed_record(size=-1), ("`files.0.size` cannot be -1",)),
}


@RUN_AND_VERIFY
@pytest.mark.parametrize(("damage", "words"), NO_ARTIFACT.values(), ids=NO_ARTIFACT)
def test_no_artifact(artifact: Path, command: Command, damage: Damage, words: tuple[str, ...]) -> None:
    damage(artifact)
    assert_one_error(command(artifact), *words)


def flip_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0x10
    path.write_bytes(data)


def to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


BAD_FILES: Mapping[str, tuple[Damage, str]] = {
    "missing": (Path.unlink, "is missing (No such file or directory)"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-1]), "is truncated: it has"),
    "empty": (lambda path: path.write_bytes(b""), "is truncated: it has 0 bytes and was written with"),
    "longer": (lambda path: path.write_bytes(path.read_bytes() + b"\0"), "is too long: it has"),
    "altered": (flip_bit, "was altered since it was written"),
}


@RUN_AND_VERIFY
@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize(("damage", "words"), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_file(artifact: Path, command: Command, file: str, damage: Damage, words: str) -> None:
    damage(artifact / file)
    assert_one_error(command(artifact), f"{artifact / file} {words}", "compile the model again")


@RUN_AND_VERIFY
def test_folder_in_place_of_a_file(artifact: Path, command: Command) -> None:
    """Of the right size, as a folder may be by chance."""
    to_folder(artifact / FILES[0])
    fields = read_manifest(artifact)
    record = next(record for record in fields["files"] if record["path"] == FILES[0])
    record["size"] = (artifact / FILES[0]).stat().st_size
    write_manifest(artifact, fields)
    assert_one_error(command(artifact), str(artifact / FILES[0]), "directory")


def other_header(artifact: Path) -> None:
    """Two tensors of the same shape under each other's names."""
    content = (artifact / PARAMS).read_bytes()
    names = b'"layers.0.ffn_norm"', b'"layers.1.ffn_norm"'
    assert all(content.count(name) == 1 for name in names)
    swapped = content.replace(names[0], b"?").replace(names[1], names[0]).replace(b"?", names[1])
    rewrite(artifact, PARAMS, swapped)


def longer_params(artifact: Path) -> None:
    rewrite(artifact, PARAMS, (artifact / PARAMS).read_bytes() + bytes(64))


def other_model(artifact: Path) -> None:
    fields = read_manifest(artifact)
    fields["model"]["intermediate_size"] += 64  # a register tile: less would be lost in the padding
    write_manifest(artifact, fields)


SEALED: Mapping[str, tuple[Command, Damage, tuple[str, ...]]] = {
    "other tensors": (generate, other_header, (PARAMS, "shapes or offsets differ")),
    "other tensors, verified": (verify, other_header, (PARAMS, "shapes or offsets differ")),
    "more than the tensors": (generate, longer_params, (PARAMS, "were expected")),
    "more than the tensors, verified": (verify, longer_params, (PARAMS, "were expected")),
    "other model": (generate, other_model, (PARAMS, "does not hold the tensors of the manifest's model")),
    "other model, verified": (verify, other_model, (PARAMS, "does not hold the tensors of the manifest's model")),
    "no machine code": (
        generate,
        lambda artifact: rewrite(artifact, "kernels.o", b"\x7fELF" + bytes(100)),
        ("kernels.o cannot be linked",),
    ),
    "no tokenizer": (
        generate,
        lambda artifact: rewrite(artifact, "tokenizer/tokenizer.json", b"{}"),
        ("tokenizer.json is damaged",),
    ),
    "no tokenizer settings": (
        generate,
        lambda artifact: rewrite(artifact, "tokenizer/tokenizer_config.json", b"{}"),
        ("tokenizer_config.json",),
    ),
    "no template": (
        generate,
        lambda artifact: rewrite(artifact, "tokenizer/chat_template.jinja", b"{% if %}"),
        ("chat_template.jinja, line 1",),
    ),
}


@pytest.mark.parametrize(("command", "damage", "words"), SEALED.values(), ids=SEALED)
def test_bad_content_under_good_seals(artifact: Path, command: Command, damage: Damage, words: tuple[str, ...]) -> None:
    damage(artifact)
    assert_one_error(command(artifact), *words)


def lack(artifact: Path, feature: str) -> None:
    fields: dict[str, Any] = read_manifest(artifact)
    fields["target"]["features"].append(feature)
    write_manifest(artifact, fields)


def test_cpu_that_lacks_a_feature(artifact: Path) -> None:
    """It cannot run, but it can be looked at and verified."""
    lack(artifact, "avx1024")
    assert_one_error(generate(artifact), f"{artifact} was compiled for", "this CPU lacks avx1024", "--target")
    assert verify(artifact).returncode == 0
    assert re.search(r"^runs here +no: .*lacks avx1024", ilmari_here("inspect", artifact).stdout, re.MULTILINE)


def test_other_architecture(compile_tiny: Callable[..., Path]) -> None:
    cpu, arch = {"x86_64": ("neoverse-n1", "aarch64")}.get(platform.machine(), ("haswell", "x86_64"))
    artifact = compile_tiny("fp16", cpu)
    words = f"{artifact} was compiled for {arch} ({cpu}) and this machine is {platform.machine()}"
    assert_one_error(generate(artifact), words)
    assert verify(artifact).returncode == 0


def test_as_a_process(artifact: Path) -> None:
    flip_bit(artifact / PARAMS)
    assert_one_error(ilmari("chat", "--model", artifact), f"{artifact / PARAMS} was altered")
