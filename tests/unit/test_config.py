"""The vendor's YAML: what is accepted, what it means, and the sentence for every mistake."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ilmari.compile.config import CompileConfig, Gptq, load_config, parse_recipe
from ilmari.compile.own_text import LENGTH, SAMPLES
from ilmari.compile.schema import KEYS, given_keys
from ilmari.errors import ConfigError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"

GOOD = """\
name: tiny
frontend:
  checkpoint: models/tiny
  type: huggingface
  shape:
    input_ids: [[32], [64]]
  model_kwargs:
    tp: 1
backend:
  dtype: fp16
workspace:
  path: out
"""

ZOO = [
    "chatglm3_hf_chatglm_kv8",
    "internlm2_5_hf_internlm_fp16",
    "internlm2_5_hf_internlm_int8",
    "internlm2_hf_internlm_fp16",
    "internlm2_hf_internlm_int8",
    "internlm3_hf_internlm_fp16",
    "internlm3_hf_internlm_int8",
    "vamc_config",
    "vamc_quant",
]


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "recipe.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def refusal(path: Path, *overrides: str) -> str:
    """The one sentence with which a configuration is refused."""
    with pytest.raises(ConfigError) as refused:
        load_config(path, overrides)
    message = str(refused.value)
    assert "\n" not in message
    assert "pydantic" not in message
    assert "Input should" not in message
    return message


def leaves(tree: dict[str, Any], prefix: str = "") -> set[str]:
    """The key path of every value of a plain parse, by a route that shares nothing with the schema."""
    blocks = {key: value for key, value in tree.items() if isinstance(value, dict)}
    own = {prefix + key for key in tree if key not in blocks}
    return own.union(*(leaves(value, f"{prefix}{key}.") for key, value in blocks.items()))


# What is accepted


@pytest.mark.shared
@pytest.mark.parametrize("name", ZOO)
def test_zoo_file_is_known_key_by_key(shared: Path, name: str) -> None:
    path = shared / "zoo" / f"{name}.yaml"
    recipe = parse_recipe(path)
    assert set(given_keys(recipe.keys)) == leaves(yaml.safe_load(path.read_text(encoding="utf-8")))


@pytest.mark.shared
def test_every_zoo_file_is_listed(shared: Path) -> None:
    assert sorted(path.stem for path in (shared / "zoo").glob("*.yaml")) == ZOO


@pytest.mark.shared
@pytest.mark.parametrize("name", ZOO)
def test_zoo_file_resolves(shared: Path, name: str) -> None:
    path = shared / "zoo" / f"{name}.yaml"
    config, keys = load_config(path), yaml.safe_load(path.read_text(encoding="utf-8"))
    kwargs = keys["frontend"].get("model_kwargs", {})
    assert (config.name, config.tp) == (keys["name"], kwargs.get("tp", 1))
    assert config.align_qkv == kwargs.get("align_qkv", False)


NO_EFFECT = {
    "frontend.model_kwargs.model_arch": "models are built in",
    "backend.type": "no VACC silicon in the open, so this compiles for the CPU",
    "backend.merge_params": "layout",
    "backend.compile.data_type": "vendor's compiler",
    "backend.compile.gather_data_vccl_dsp_enable": "vendor's compiler",
}


def assert_notices(notices: tuple[str, ...], expected: dict[str, str]) -> None:
    assert len(notices) == len(expected)
    for notice, (key, why) in zip(notices, expected.items(), strict=True):
        assert notice.startswith(f"`{key}` has no effect: ")
        assert why in notice


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "overrides", "artifact", "scheme"),
    [
        ("internlm2_hf_internlm_fp16", [], "internlm2-7b-fp16-tp4-1024-2048", "fp16"),
        (
            "internlm2_hf_internlm_int8",
            ["frontend.quantize.type=w8a16"],
            "internlm2-7b-int8-tp4-1024-2048",
            "w8a16",
        ),
    ],
)
def test_internlm2_golden(shared: Path, name: str, overrides: list[str], artifact: str, scheme: str) -> None:
    path = shared / "zoo" / f"{name}.yaml"
    config = load_config(path, overrides)
    assert config == CompileConfig(
        source=path,
        name=artifact,
        checkpoint=Path("/path/to/internlm2-7b"),
        max_prompt_len=1024,
        max_seq_len=2048,
        scheme=scheme,
        output=Path("vacc_deploy") / artifact,
        notices=config.notices,
        throughput=True,
        workers=4,
        tp=4,
    )
    assert_notices(config.notices, NO_EFFECT)


@pytest.mark.shared
def test_gptq_without_data(shared: Path) -> None:
    config = load_config(shared / "zoo" / "internlm2_hf_internlm_int8.yaml")
    assert (config.scheme, config.gptq, config.calibration) == (
        "w8a16",
        Gptq(0.01, act_order=True, true_sequential=False),
        None,
    )
    *unused, own_text = config.notices
    assert_notices(tuple(unused), NO_EFFECT)
    assert f"{SAMPLES} samples of {LENGTH} tokens" in own_text


@pytest.mark.shared
def test_gptq_with_data(shared: Path) -> None:
    overrides = ["frontend.quantize.calib_args.act_order=false", "frontend.quantize.calib_args.damp_percent=0.05"]
    config = load_config(shared / "zoo" / "vamc_quant.yaml", overrides)
    assert (config.scheme, config.gptq) == ("w8a16", Gptq(0.05, act_order=False, true_sequential=False))
    assert config.calibration is not None
    assert [source.name for source in config.calibration.sources] == ["alpaca"]
    assert_notices(
        config.notices,
        {
            "frontend.quantize.device": "the CPU",
            "backend.type": "VACC",
            "backend.merge_params": "layout",
            "backend.compile.data_type": "vendor's compiler",
        },
    )


@pytest.mark.parametrize(
    ("given", "activation", "scheme", "calibrated"),
    [
        ("w8a8_gptq", None, "w8a8", True),
        ("w8a16_gptq", "a8", "w8a8", True),
        ("w8a8_gptq_kv8", None, "w8a8_kv8", True),
        ("w8a16_gptq_kv8", None, "w8a16_kv8", True),
        ("w8a16_kv8", None, "w8a16_kv8", False),
    ],
)
def test_calibrated_schemes(tmp_path: Path, given: str, activation: str | None, scheme: str, calibrated: bool) -> None:
    overrides = ["backend.dtype=int8", f"frontend.quantize.type={given}"]
    config = load_config(write(tmp_path, GOOD), overrides, activation)
    assert (config.scheme, config.gptq is not None) == (scheme, calibrated)


@pytest.mark.shared
def test_calibration_keys_have_one_notice_each(shared: Path) -> None:
    config = load_config(shared / "zoo" / "vamc_quant.yaml", ["frontend.quantize.type=w8a16"])
    expected = {
        "frontend.quantize.device": "the CPU",
        "backend.type": "VACC",
        "backend.merge_params": "layout",
        "backend.compile.data_type": "vendor's compiler",
        "frontend.quantize.calib_args": "rounding to nearest",
        "dataset": "rounding to nearest",
    }
    assert_notices(config.notices, expected)


@pytest.mark.parametrize(("precision", "scheme"), [("fp16", "fp16"), ("int8", "w8a16")])
def test_own_configs_are_ready_to_use(precision: str, scheme: str) -> None:
    config = load_config(CONFIGS / f"internlm2-chat-1_8b-{precision}.yaml")
    assert (config.scheme, config.max_prompt_len, config.max_seq_len) == (scheme, 1024, 2048)
    assert config.output == Path("artifacts") / f"internlm2-chat-1_8b-{precision}"
    assert config.notices == ()


def test_smallest_file(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "{name: a, frontend: {checkpoint: m, shape: {input_ids: [[16], [16]]}}, backend: {dtype: int8}, "
        "workspace: {path: /out}}",
    )
    assert load_config(path) == CompileConfig(path, "a", Path("m"), 16, 16, "w8a16", Path("/out/a"), ())


@pytest.mark.parametrize(
    ("override", "field", "value"),
    [
        ("name=other-1", "name", "other-1"),
        ("name=2024-01-01", "name", "2024-01-01"),
        ("backend.dtype=int8", "scheme", "w8a16"),
        ("backend.dtype=bf16", "scheme", "bf16"),
        ("frontend.shape.input_ids=[[16], [4096]]", "max_seq_len", 4096),
        ("frontend.checkpoint=/a=b", "checkpoint", Path("/a=b")),
        ("frontend.quantize.device=cuda:0", "notices", None),
        ("frontend.model_kwargs=null", "scheme", "fp16"),
        ("dataset.seqlen=null", "notices", ()),
    ],
)
def test_override(tmp_path: Path, override: str, field: str, value: object) -> None:
    found = getattr(load_config(write(tmp_path, GOOD), [override]), field)
    assert found == value if value is not None else found


@pytest.mark.parametrize("dtype", ["fp16", "int8"])
def test_float_weights_with_an_int8_cache(tmp_path: Path, dtype: str) -> None:
    """The vendor's file says int8 and means the cache."""
    overrides = [f"backend.dtype={dtype}", "frontend.quantize.type=w16kv8"]
    assert load_config(write(tmp_path, GOOD), overrides).scheme == "w16kv8"


@pytest.mark.shared
def test_the_vendors_int8_cache_resolves(shared: Path) -> None:
    path = shared / "zoo" / "chatglm3_hf_chatglm_kv8.yaml"
    assert load_config(path).scheme == "w16kv8"


@pytest.mark.parametrize("activation", ["a16", "a8"])
@pytest.mark.parametrize("given", ["w8a16", "w8a8"])
def test_activation_leaves_the_cache_as_it_is(tmp_path: Path, given: str, activation: str) -> None:
    overrides = ["backend.dtype=int8", f"frontend.quantize.type={given}_kv8"]
    assert load_config(write(tmp_path, GOOD), overrides, activation).scheme == f"w8{activation}_kv8"


def test_last_override_wins(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, GOOD), ["name=a", "name=b"]).name == "b"


def test_override_fills_an_empty_block_and_drops_an_unknown_key(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD.replace("backend:\n  dtype: fp16", "backend:\nalibrate_mode: max"))
    assert load_config(path, ["backend.dtype=fp16", "alibrate_mode=null"]).scheme == "fp16"


# What is refused: (what to replace in the good file, by what, words of the sentence)
BAD_FILES: list[tuple[str, str, list[str]]] = [
    # keys
    ("dtype: fp16", "dtyp: fp16", ["unknown key `backend.dtyp`", "did you mean `backend.dtype`?"]),
    ("backend:", "bakend:", ["unknown key `bakend`", "did you mean `backend`?"]),
    ("  type: hug", "  tp: 1\n  type: hug", ["`frontend.tp`", "did you mean `frontend.model_kwargs.tp`?"]),
    ("workspace:", "alibrate_mode: max\nworkspace:", ["unknown key `alibrate_mode`", "name, frontend, backend"]),
    ("    tp: 1", "    tp: 1\n    7: 1", ["unknown key `frontend.model_kwargs.7`", "tp, b2s, model_arch, align_qkv"]),
    ("backend:\n  dtype", "backend.dtype", ["unknown key `backend.dtype`", "mapping"]),
    ("    tp: 1", "    tp: 1\n    tp: 2", ["line 9, column 5", "the key tp is given twice, first on line 8"]),
    # missing
    ("name: tiny\n", "", ["`name` is missing", "plain folder name"]),
    ("  dtype: fp16", "  merge_params: true", ["`backend.dtype` is missing", "fp16, bf16 or int8"]),
    ("workspace:\n  path: out\n", "", ["`workspace.path` is missing"]),
    ("  path: out", "  workers: 4", ["`workspace.path` is missing"]),
    ("  checkpoint: models/tiny\n", "", ["`frontend.checkpoint` is missing"]),
    ("    input_ids: [[32], [64]]", "    {}", ["`frontend.shape.input_ids` is missing", "[[longest prompt]"]),
    # types
    ("tp: 1", 'tp: "4"', ['`frontend.model_kwargs.tp` is "4" (a string)', "an integer"]),
    ("tp: 1", "tp: true", ["`frontend.model_kwargs.tp` is true (a boolean)", "an integer"]),
    ("tp: 1", "tp: 1.0", ["`frontend.model_kwargs.tp` is 1.0 (a number)", "an integer"]),
    ("tp: 1", "tp: 0", ["`frontend.model_kwargs.tp` is 0", "from 1 to 16"]),
    ("tp: 1", "b2s: 1", ["`frontend.model_kwargs.b2s` is 1 (an integer)", "true or false"]),
    ("name: tiny", "name: 7", ["`name` is 7 (an integer)", "folder name"]),
    ("name: tiny", "name:", ["`name` is null (nothing)", "folder name"]),
    ("dtype: fp16", "dtype: fp8", ['`backend.dtype` is "fp8"', "fp16, bf16 or int8"]),
    ("type: huggingface", "type: onnx", ['`frontend.type` is "onnx"', "expected huggingface"]),
    ("backend:\n  dtype: fp16", "backend: fp16", ['`backend` is "fp16" (a string)', "a mapping"]),
    ("backend:\n  dtype: fp16", "backend: [fp16]", ['`backend` is ["fp16"] (a list)', "a mapping"]),
    ("path: out", 'path: "a\\0b"', ["`workspace.path`", "a path"]),
    ("path: out", 'path: ""', ["`workspace.path`", "a path"]),
    # names
    ("name: tiny", "name: ..", ['`name` is ".."', "plain folder name"]),
    ("name: tiny", "name: a/b", ['`name` is "a/b"', "plain folder name"]),
    ("name: tiny", "name: ''", ['`name` is ""', "plain folder name"]),
    ("name: tiny", "name: " + "é" * 101, ["`name` is", "…", "at most 200 bytes"]),
    # shapes
    ("[[32], [64]]", "[[30], [64]]", ["`frontend.shape.input_ids` is [[30], [64]]", "16", "such as [[32], [64]]"]),
    ("[[32], [64]]", "[[128], [64]]", ["`frontend.shape.input_ids`", "not longer", "such as [[64], [64]]"]),
    ("[[32], [64]]", "[[0], [-64]]", ["`frontend.shape.input_ids`", "positive", "such as [[16], [16]]"]),
    ("[[32], [64]]", "[32, 64]", ["`frontend.shape.input_ids` is [32, 64] (a list)", "lists of their own"]),
    ("[[32], [64]]", "[[32], [64], [96]]", ["`frontend.shape.input_ids`", "expected [[longest prompt]"]),
    ("[[32], [64]]", '[[32], ["64"]]', ['`frontend.shape.input_ids` is [[32], ["64"]]', "two integers"]),
    ("[[32], [64]]", "[[32], [true]]", ["`frontend.shape.input_ids` is [[32], [true]]", "two integers"]),
    ("tp: 1", "tp: 17", ["`frontend.model_kwargs.tp` is 17", "from 1 to 16"]),
    # contradictions
    (
        "backend:\n  dtype: fp16",
        "  quantize: {type: w8a16}\nbackend:\n  dtype: fp16",
        ["`backend.dtype` is fp16", "`frontend.quantize.type` is w8a16", "int8"],
    ),
    (
        "backend:",
        "  quantize: {type: w8a8_gptq}\nbackend:",
        ["`backend.dtype` is fp16", "`frontend.quantize.type` is w8a8_gptq", "int8"],
    ),
    (
        "backend:",
        "  quantize: {calib_args: {damp_percent: 1.5}}\nbackend:",
        ["`frontend.quantize.calib_args.damp_percent` is 1.5", "above 0 and below 1"],
    ),
    (
        "backend:\n  dtype: fp16",
        "  quantize: {type: w16kv8}\nbackend:\n  dtype: bf16",
        ["`backend.dtype` is bf16", "`frontend.quantize.type` is w16kv8", "`backend.dtype: fp16`"],
    ),
    (
        "backend:\n  dtype: fp16",
        "  quantize: {type: w8a16_kv8}\nbackend:\n  dtype: fp16",
        ["`backend.dtype` is fp16", "`frontend.quantize.type` is w8a16_kv8", "`backend.dtype: int8`"],
    ),
    (
        "backend:",
        "  quantize: {type: awq}\nbackend:",
        ['`frontend.quantize.type` is "awq"', "w8a16, w8a8, w8a16_gptq, w8a8_gptq, w16kv8", "or w8a8_gptq_kv8"],
    ),
    # YAML
    ("tp: 1", "tp: [1", ["line 9, column", "correct the YAML"]),
    ("  dtype: fp16", "\tdtype: fp16", ["line 10, column 1", "correct the YAML"]),
    ("tp: 1", "tp: &a 1\n    b2s: *a", ["line 9, column 10", "aliases are not accepted"]),
    ("tp: 1", "tp: !!python/object/apply:os.getcwd []", ["line 8, column 9", "tags are not accepted"]),
    ("tp: 1", "<<: {tp: 1}", ["unknown key `frontend.model_kwargs.<<`"]),
    ("tp: 1", "tp: " + "[" * 200 + "]" * 200, ["line 8", "32 levels"]),
    ("tp: 1", "tp: " + "9" * 5000, ["line 8", "20 digits"]),
    ("tp: 1", "tp: 0b_", ["line 8", "0b_ is not an integer"]),
    ("tp: 1", "? [tp]\n    : 1", ["line 8", "unhashable"]),
    ("tp: 1", "tp: 1 # \x07", ["line 8", "U+0007"]),
    ("name: tiny", "---\nname: tiny\n---\nname: tiny", ["line 3", "document"]),
]


@pytest.mark.parametrize(("old", "new", "words"), BAD_FILES, ids=lambda value: repr(value)[:40])
def test_bad_file(tmp_path: Path, old: str, new: str, words: list[str]) -> None:
    assert GOOD.count(old) == 1
    path = write(tmp_path, GOOD.replace(old, new))
    message = refusal(path)
    for word in [str(path), *words]:
        assert word in message


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "is empty"),
        (b"# nothing\n", "is empty"),
        (b"- a\n- b\n", "holds a list"),
        (b"hello\n", "holds a string"),
        (GOOD.encode("utf-16"), "not UTF-8"),
        (b"name: caf\xe9\n", "not UTF-8 text (byte 9)"),
        (GOOD.encode() + b"#" * 65536, "larger than 64 KiB"),
    ],
)
def test_not_a_configuration(tmp_path: Path, data: bytes, word: str) -> None:
    path = write(tmp_path, data)
    message = refusal(path)
    assert message.startswith(str(path))
    assert word in message


def test_absent_file_and_folder(tmp_path: Path) -> None:
    absent = tmp_path / "absent.yaml"
    assert refusal(absent) == f"{absent} cannot be read as a configuration: No such file or directory."
    assert refusal(tmp_path) == f"{tmp_path} cannot be read as a configuration: Is a directory."


def test_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, b"\xef\xbb\xbf" + GOOD.encode())).name == "tiny"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("backend.dtype", ["expected KEY=VALUE"]),
        ("=fp16", ["expected KEY=VALUE"]),
        ("backend..dtype=fp16", ["expected KEY=VALUE"]),
        ("backend.dtype=", ["gets no value"]),
        ("frontend.checkpoint=#a", ["gets no value"]),
        ("backend.dtype=[", ["line 1", "correct the YAML"]),
        ("backend.dtype=*a", ["aliases"]),
        ("backend.dtype=fp8", ['`backend.dtype` is "fp8"', "fp16, bf16 or int8"]),
        ("backend={dtype: 3}", ["`backend.dtype` is 3 (an integer)"]),
        ("backend.dtyp=fp16", ["unknown key `backend.dtyp`", "did you mean `backend.dtype`?"]),
        ("bakend.dtype=fp16", ["unknown key `bakend`", "did you mean `backend`?"]),
        ("backend.dtyp=null", ["unknown key `backend.dtyp`", "did you mean `backend.dtype`?"]),
        ("backend.compile.datatype=0", ["did you mean `backend.compile.data_type`?"]),
        ("name.x=1", ["`name` is a string in the file", "expected a mapping"]),
    ],
)
def test_bad_override(tmp_path: Path, override: str, words: list[str]) -> None:
    message = refusal(write(tmp_path, GOOD), "workspace.workers=2", override)
    for word in [f"--set {override}", *words]:
        assert word in message


def test_removing_a_required_key_is_the_overrides_mistake(tmp_path: Path) -> None:
    message = refusal(write(tmp_path, GOOD), "backend=null")
    assert message == "--set backend=null: `backend.dtype` is missing; expected fp16, bf16 or int8."


# Nothing that a file holds may end in anything but a ConfigError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=3),
    max_leaves=6,
)


@given(key=st.sampled_from(sorted(KEYS)), value=VALUES)
def test_any_value_anywhere(tmp_path_factory: pytest.TempPathFactory, key: str, value: object) -> None:
    tree = yaml.safe_load(GOOD)
    *blocks, last = key.split(".")
    node = tree
    for name in blocks:
        node = node.setdefault(name, {})
    node[last] = value
    path = write(tmp_path_factory.getbasetemp(), yaml.safe_dump(tree))
    with suppress(ConfigError):
        load_config(path)


@given(text=st.text(alphabet="a:[]{}-?#&*!|>'\"%@` \n\t01,.xb_~<=\\", max_size=40))
def test_any_text(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    with pytest.raises(ConfigError):
        load_config(write(tmp_path_factory.getbasetemp(), text))
