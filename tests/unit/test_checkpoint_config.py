"""config.json: what releases say is understood, and everything doubtful is one clear sentence."""

import json
from pathlib import Path

import pytest
from checkpoints import ODD_SIZES, assert_one_sentence, edit_config, write_checkpoint, write_json

from ilmari.checkpoint.config import read_config_file
from ilmari.errors import CheckpointError
from ilmari.model.config import DynamicNtk, ModelConfig
from ilmari.model.family import FAMILIES, find_family


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "model", **ODD_SIZES)


def test_config_of_a_release(shared: Path, tmp_path: Path) -> None:
    text = (shared / "configs" / "internlm2_5-7b-chat-1m.config.json").read_text()
    (tmp_path / "config.json").write_text(text)
    assert read_config_file(tmp_path).model == ModelConfig(
        architecture="InternLM2ForCausalLM",
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
        vocab_size=92544,
        max_position_embeddings=262144,
        rms_norm_eps=1e-5,
        rope_theta=5e7,
        rope_scaling=DynamicNtk(2.5),
        bos_token_id=1,
        eos_token_id=2,
    )


@pytest.mark.parametrize("name", ["internlm2-1_8b-reward", "internlm3-8b-instruct"])
def test_configs_of_releases_that_are_not_supported_yet(shared: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "config.json").write_text((shared / "configs" / f"{name}.config.json").read_text())
    with pytest.raises(CheckpointError, match=r"known but not supported yet; supported: InternLM2ForCausalLM\."):
        read_config_file(tmp_path)


@pytest.mark.parametrize(
    "scaling",
    [
        {"type": "dynamic", "factor": 3},
        {"rope_type": "dynamic", "factor": 3.0},
        {"type": "dynamic", "rope_type": "dynamic", "factor": 3.0},
    ],
)
def test_both_spellings_of_rope_scaling(tmp_path: Path, scaling: dict[str, object]) -> None:
    folder = write_checkpoint(tmp_path, **ODD_SIZES, rope_scaling=scaling)
    assert read_config_file(folder).model.rope_scaling == DynamicNtk(3.0)


def test_the_first_of_several_stop_tokens_is_kept_and_model_type_is_not_asked(folder: Path) -> None:
    edit_config(folder, eos_token_id=[5, 2], model_type="internlm", head_dim=None)
    config = read_config_file(folder).model
    assert (config.eos_token_id, config.head_dim) == (5, 32)


LARGE = {"hidden_size": 65_536, "head_dim": 32, "intermediate_size": 16_383, "vocab_size": 32_767}


def test_the_largest_sizes(folder: Path) -> None:
    edit_config(folder, **LARGE)
    model = read_config_file(folder).model
    assert (model.hidden_size, model.intermediate_size, model.vocab_size) == (65_536, 16_383, 32_767)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"vocab_size": 32_768}, "the embedding has 2,147,483,648 elements"),
        ({"intermediate_size": 16_384}, "the gate and up projection has 2,147,483,648 elements"),
        ({"num_attention_heads": 1024}, "the query, key and value projection has 2,151,677,952 elements"),
        ({"num_attention_heads": 2049, "hidden_size": 32}, "num_attention_heads times head_dim is 65568"),
    ],
)
def test_sizes_beyond_the_kernels(folder: Path, sizes: dict[str, int], message: str) -> None:
    edit_config(folder, **LARGE | sizes)
    with pytest.raises(CheckpointError, match=rf"config\.json: {message}") as caught:
        read_config_file(folder)
    assert_one_sentence(caught.value)


REQUIRED = [
    "architectures",
    "bias",
    "bos_token_id",
    "eos_token_id",
    "hidden_act",
    "hidden_size",
    "intermediate_size",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "rms_norm_eps",
    "rope_scaling",
    "rope_theta",
    "tie_word_embeddings",
    "vocab_size",
]


@pytest.mark.parametrize("key", REQUIRED)
def test_a_missing_key_is_named(folder: Path, key: str) -> None:
    path = folder / "config.json"
    values = json.loads(path.read_text())
    del values[key]
    write_json(path, values)
    with pytest.raises(CheckpointError, match=rf"config\.json: the key '{key}' is missing"):
        read_config_file(folder)


BAD_VALUES: list[tuple[str, object, str]] = [
    ("architectures", [], "exactly one name"),
    ("architectures", ["InternLM2ForCausalLM", "InternLM2ForRewardModel"], "exactly one name"),
    ("architectures", "InternLM2ForCausalLM", "exactly one name"),
    ("architectures", ["LlamaForCausalLM"], "does not know; supported: InternLM2ForCausalLM"),
    ("architectures", ["InternLMForCausalLM"], "not supported yet"),
    ("bias", True, "bias are not supported yet"),
    ("bias", 0, "true or false"),
    ("hidden_act", "gelu", "'silu'"),
    ("hidden_size", 0, "multiple of 32"),
    ("hidden_size", 48, "multiple of 32"),
    ("hidden_size", "48", "multiple of 32"),
    ("hidden_size", 64, r"num_attention_heads \(3\) times"),
    ("hidden_size", 144.0, "multiple of 32"),
    ("hidden_size", 65_568, "from 32 to 65536"),
    ("intermediate_size", 65_537, "from 1 to 65536"),
    ("head_dim", 24, "multiple of 32"),
    ("intermediate_size", True, "an integer"),
    ("intermediate_size", 10**30, "an integer"),
    ("num_hidden_layers", -2, "an integer from 1 to 1024"),
    ("num_hidden_layers", 2**31, "an integer from 1 to 1024"),
    ("num_key_value_heads", 2, r"multiple of num_key_value_heads \(2\)"),
    ("num_key_value_heads", 6, r"multiple of num_key_value_heads \(6\)"),
    ("vocab_size", None, "an integer"),
    ("rms_norm_eps", 0, "positive finite number"),
    ("rms_norm_eps", True, "positive finite number"),
    ("rope_theta", -1e4, "positive finite number"),
    ("rope_theta", 10**400, "positive finite number"),
    ("rope_theta", "1e6", "positive finite number"),
    ("rope_scaling", {"type": "linear", "factor": 2.0}, "'linear', and only 'dynamic'"),
    ("rope_scaling", {"rope_type": "yarn", "factor": 2.0}, "'yarn', and only 'dynamic'"),
    ("rope_scaling", {"type": "dynamic", "rope_type": "linear", "factor": 2.0}, "'linear', and only 'dynamic'"),
    ("rope_scaling", {"type": "dynamic"}, "factor"),
    ("rope_scaling", {"factor": 2.0}, "null or"),
    ("rope_scaling", {"type": "dynamic", "factor": 0.5}, "at least 1"),
    ("rope_scaling", {"type": "dynamic", "factor": 2.0, "alpha": 1}, "null or"),
    ("rope_scaling", "dynamic", "null or"),
    ("bos_token_id", 37, "from 0 to 36"),
    ("bos_token_id", None, "from 0 to 36"),
    ("eos_token_id", [], "or a list of them"),
    ("eos_token_id", [2, 92542], "or a list of them"),
    ("eos_token_id", -1, "or a list of them"),
    ("tie_word_embeddings", "false", "true or false"),
]


@pytest.mark.parametrize(("key", "value", "message"), BAD_VALUES)
def test_a_bad_value_names_file_key_and_expectation(folder: Path, key: str, value: object, message: str) -> None:
    edit_config(folder, **{key: value})
    where = "num_attention_heads" if key == "num_key_value_heads" else key
    with pytest.raises(CheckpointError, match=rf"config\.json: .*{where}.*{message}") as caught:
        read_config_file(folder)
    assert_one_sentence(caught.value)


BAD_JSON: list[tuple[str, bytes, str]] = [
    ("empty", b"", "not valid JSON"),
    ("cut", b'{"bias": fal', "not valid JSON"),
    ("not an object", b"[1, 2]", "a JSON list"),
    ("a repeated key", b'{"bias": false, "bias": true}', "'bias' occurs twice"),
    ("a repeated inner key", b'{"rope_scaling": {"type": 1, "type": 2}}', "'type' occurs twice"),
    ("not UTF-8", b'{"a": "\xff"}', "not valid JSON"),
    ("not a number", b'{"rope_theta": NaN}', "NaN is not a JSON number"),
    ("very long number", b'{"rope_theta": ' + b"9" * 5000 + b"}", "not valid JSON"),
    ("deep", b"[" * 500_000, "nested too deeply"),
    ("huge", b" " * (1 << 20) + b"{}", "larger than"),
]


@pytest.mark.parametrize(("content", "message"), [case[1:] for case in BAD_JSON], ids=[case[0] for case in BAD_JSON])
def test_a_config_that_is_not_an_object_of_unique_keys(folder: Path, content: bytes, message: str) -> None:
    (folder / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"config\.json .*{message}") as caught:
        read_config_file(folder)
    assert_one_sentence(caught.value)


def test_a_family_is_found_only_if_supported() -> None:
    for family in FAMILIES:
        if family.supported:
            assert find_family([family.architecture], "x") is family
        else:
            with pytest.raises(CheckpointError, match=f"x: .*{family.architecture} .*not supported yet"):
                find_family([family.architecture], "x")
