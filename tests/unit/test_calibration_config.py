"""The `dataset` section of a recipe: what it asks for, and the sentence for every mistake in it."""

from pathlib import Path
from typing import get_args

import pytest
from checkpoints import assert_one_sentence

from ilmari.compile.config import load_config
from ilmari.compile.schema import SetName
from ilmari.datasets.calibration import SETS, Calibration, Source
from ilmari.errors import ConfigError

RECIPE = """\
name: tiny
frontend: {checkpoint: models/tiny, shape: {input_ids: [[32], [64]]}}
backend: {dtype: int8}
workspace: {path: out}
"""
MIX = "mix: [{name: c4, path: a, weight: 2}, {name: alpaca, path: b}]"


def recipe(folder: Path, dataset: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(f"{RECIPE}dataset: {dataset}\n")
    return path


def refusal(path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as refused:
        load_config(path, overrides)
    assert_one_sentence(refused.value)
    return str(refused.value)


@pytest.mark.shared
def test_the_vendors_file(shared: Path) -> None:
    config = load_config(shared / "zoo" / "vamc_quant.yaml", ["frontend.quantize.type=w8a16"])
    assert config.calibration == Calibration((Source("alpaca", Path("/path/to/en_alpaca_data.json")),), 128, 512, 0)


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        ("", None),
        ("{}", None),
        ("{seqlen: null}", None),
        ("{type: huggingface, name: c4, path: a}", Calibration((Source("c4", Path("a")),), 128, 512, 0)),
        (
            "{path: a, name: ceval, nsamples: 3, seqlen: 7, seed: 9}",
            Calibration((Source("ceval", Path("a")),), 3, 7, 9),
        ),
        (
            f"{{{MIX}, nsamples: 6}}",
            Calibration((Source("c4", Path("a"), 2.0), Source("alpaca", Path("b"), 1.0)), 6, 512, 0),
        ),
    ],
)
def test_what_a_section_asks_for(tmp_path: Path, dataset: str, expected: Calibration | None) -> None:
    config = load_config(recipe(tmp_path, dataset))
    assert config.calibration == expected
    assert len([notice for notice in config.notices if notice.startswith("`dataset` has no effect")]) == bool(expected)


def test_the_schema_names_every_set() -> None:
    assert set(get_args(SetName)) == set(SETS)


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        ("{nsamples: 0, name: c4, path: a}", "`dataset.nsamples` is 0 (an integer); expected an integer, 1 or more"),
        ("{seqlen: 0, name: c4, path: a}", "`dataset.seqlen` is 0 (an integer)"),
        ("{seed: -1, name: c4, path: a}", "`dataset.seed` is -1 (an integer); expected an integer, 0 or more"),
        ("{name: pile, path: a}", '`dataset.name` is "pile" (a string); expected alpaca, c4 or ceval'),
        ("{nsamples: 4}", "`dataset.name` is missing; expected alpaca, c4 or ceval, or a list `dataset.mix`"),
        ("{name: c4}", "`dataset.path` is missing; expected a path, or a list `dataset.mix`"),
        ("{name: c4, path: a, nsamples: 65536}", "makes 33,554,432 tokens; calibrate with at most 16,777,216"),
        ("[{name: c4, path: a}]", "`dataset` is [{"),
        # mixtures
        (f"{{{MIX}, name: c4}}", "`dataset` has a set beside `dataset.mix`; remove it"),
        (f"{{{MIX}, path: c}}", "`dataset` has a set beside `dataset.mix`"),
        (f"{{{MIX}, nsamples: 1}}", "the weights in `dataset.mix` leave none for b"),
        ("{mix: []}", "`dataset.mix` is [] (a list); expected a list of 1 to 16 mappings"),
        ("{mix: [3]}", "`dataset.mix` is [3] (a list); expected a list of 1 to 16 mappings of name, path and weight"),
        ("{mix: {name: c4, path: a}}", "`dataset.mix` is {"),
        ("{mix: [{name: c4, path: a, wieght: 2}]}", "unknown key `dataset.mix.wieght`"),
        (
            "{mix: [{name: c4, path: a, 7: 2}]}",
            "`dataset.mix.7`; the keys known there are name, path, weight",
        ),
        ("{mix: [{name: c4, path: a, seqlen: 2}]}", "unknown key `dataset.mix.seqlen`"),
        ("{name: c4, path: a, weight: 2}", "unknown key `dataset.weight`"),
        ("{mix: [{name: c4, path: a}, {path: b}]}", "`dataset.mix.name` is missing; expected alpaca, c4 or ceval"),
        ("{mix: [{name: c4, path: a}, {name: c4}]}", "`dataset.mix.path` is missing; expected a path"),
        (
            "{mix: [{name: c4, path: a, weight: 0}]}",
            "`dataset.mix.weight` is 0 (an integer); expected a positive",
        ),
        ("{mix: [{name: c4, path: a, weight: .inf}]}", "`dataset.mix.weight` is Infinity (a number)"),
        ("{mix: [{name: c4, path: a, weight: .nan}]}", "`dataset.mix.weight` is NaN (a number)"),
        ("{mix: [{name: c4, path: a, weight: true}]}", "`dataset.mix.weight` is true (a boolean)"),
        ('{mix: [{name: c4, path: a, weight: "2"}]}', '`dataset.mix.weight` is "2" (a string)'),
    ],
)
def test_bad_section(tmp_path: Path, dataset: str, words: str) -> None:
    path = recipe(tmp_path, dataset)
    with pytest.raises(ConfigError) as refused:
        load_config(path)
    message = str(refused.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert words in message


def test_overrides(tmp_path: Path) -> None:
    path = recipe(tmp_path, f"{{{MIX}}}")
    config = load_config(path, ["dataset.nsamples=3", "dataset.mix=[{name: ceval, path: c}]"])
    assert config.calibration == Calibration((Source("ceval", Path("c")),), 3)
    override = "dataset.mix=[{name: ceval, path: c, weight: -1}]"
    assert refusal(path, override).startswith(f"--set {override}: `dataset.mix.weight` is -1")
    assert "`dataset.mix` is a list in the file; expected a mapping" in refusal(path, "dataset.mix.weight=2")
