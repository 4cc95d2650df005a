"""GGUF to InternLM2: a tiny Llama of odd sizes, converted and compared with references written as loops."""

import json
import resource
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from ilmari.demo.gguf_checkpoint import interleave_qkv, rotate_half_rows, write_checkpoint
from ilmari.errors import CheckpointError, OutputError

Floats = NDArray[np.float32]

HEADS, KV_HEADS, HEAD_DIM, HIDDEN, INTER, LAYERS = 6, 2, 10, 60, 7, 2
TOKENS = ["<end>", "<|im_start|>", "<|im_end|>", "a", "b", "Ġ", "1", "ab", "Ġab", "<tool>"]
METADATA = {
    "llama.context_length": 321,
    "llama.embedding_length": HIDDEN,
    "llama.feed_forward_length": INTER,
    "llama.block_count": LAYERS,
    "llama.attention.head_count": HEADS,
    "llama.attention.head_count_kv": KV_HEADS,
    "llama.vocab_size": len(TOKENS),
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
    "tokenizer.ggml.padding_token_id": 2,
    "tokenizer.ggml.unknown_token_id": 0,
}


def tiny_tensors() -> dict[str, Floats]:
    """Random tensors under GGUF names; the values are exact in float16."""
    generator = np.random.default_rng(5)
    q_size, kv_size = HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM
    shapes: dict[str, tuple[int, ...]] = {"token_embd": (len(TOKENS), HIDDEN), "output_norm": (HIDDEN,)}
    for layer in range(LAYERS):
        shapes |= {
            f"blk.{layer}.attn_norm": (HIDDEN,),
            f"blk.{layer}.attn_q": (q_size, HIDDEN),
            f"blk.{layer}.attn_k": (kv_size, HIDDEN),
            f"blk.{layer}.attn_v": (kv_size, HIDDEN),
            f"blk.{layer}.attn_output": (HIDDEN, q_size),
            f"blk.{layer}.ffn_norm": (HIDDEN,),
            f"blk.{layer}.ffn_gate": (INTER, HIDDEN),
            f"blk.{layer}.ffn_up": (INTER, HIDDEN),
            f"blk.{layer}.ffn_down": (HIDDEN, INTER),
        }
    return {
        f"{name}.weight": generator.normal(size=shape).astype(np.float16).astype(np.float32)
        for name, shape in shapes.items()
    }


def write_gguf(
    path: Path, tensors: dict[str, Floats], architecture: str = "llama", pre: str = "smollm", without: str = ""
) -> Path:
    """A GGUF file of the tiny model, less the metadata key `without`."""
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in METADATA.items():
        if key != without:
            writer.add_uint32(key, value)
    writer.add_float32("llama.rope.freq_base", 54321.0)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-6)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, 3, 1, 1, 1, 1, 1, 1, 4])
    writer.add_token_merges(["a b", "Ġ ab"])
    writer.add_add_bos_token(False)
    writer.add_chat_template("{{ messages[0]['content'] }}é")
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def loop_wqkv(q: Floats, k: Floats, v: Floats) -> Floats:
    """Row by row: undo the pairing of q and k within a head, then lay out group after group."""
    per_group = HEADS // KV_HEADS
    rows = []
    for group in range(KV_HEADS):
        for head in range(per_group):
            for half in range(2):
                for i in range(HEAD_DIM // 2):
                    rows.append(q[(group * per_group + head) * HEAD_DIM + 2 * i + half])
        for half in range(2):
            for i in range(HEAD_DIM // 2):
                rows.append(k[group * HEAD_DIM + 2 * i + half])
        for i in range(HEAD_DIM):
            rows.append(v[group * HEAD_DIM + i])
    return np.array(rows)


def test_tiny_model_is_converted_tensor_by_tensor(tmp_path: Path) -> None:
    source = tiny_tensors()
    reports: list[tuple[str, int, int]] = []
    write_checkpoint(
        write_gguf(tmp_path / "tiny.gguf", source), tmp_path / "new" / "tiny", lambda *step: reports.append(step)
    )
    expected = {
        "model.tok_embeddings.weight": source["token_embd.weight"],
        "model.norm.weight": source["output_norm.weight"],
        "output.weight": source["token_embd.weight"],
    }
    for n in range(LAYERS):
        ours, theirs = f"model.layers.{n}", f"blk.{n}"
        q, k, v = (source[f"{theirs}.attn_{part}.weight"] for part in "qkv")
        expected |= {
            f"{ours}.attention_norm.weight": source[f"{theirs}.attn_norm.weight"],
            f"{ours}.attention.wqkv.weight": loop_wqkv(q, k, v),
            f"{ours}.attention.wo.weight": source[f"{theirs}.attn_output.weight"],
            f"{ours}.ffn_norm.weight": source[f"{theirs}.ffn_norm.weight"],
            f"{ours}.feed_forward.w1.weight": source[f"{theirs}.ffn_gate.weight"],
            f"{ours}.feed_forward.w3.weight": source[f"{theirs}.ffn_up.weight"],
            f"{ours}.feed_forward.w2.weight": source[f"{theirs}.ffn_down.weight"],
        }
    written = load_file(tmp_path / "new" / "tiny" / "model.safetensors")
    assert written.keys() == expected.keys()
    for name, tensor in written.items():
        assert tensor.dtype == np.float16
        np.testing.assert_array_equal(tensor, expected[name], err_msg=name)
    assert [done for _, done, _ in reports] == list(range(LAYERS + 1))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["tiny"], "nothing temporary is left"


@pytest.mark.shared
def test_tiny_model_config_comes_from_the_metadata(tmp_path: Path, shared: Path) -> None:
    write_checkpoint(write_gguf(tmp_path / "tiny.gguf", tiny_tensors()), tmp_path / "tiny", lambda *_: None)
    config = json.loads((tmp_path / "tiny" / "config.json").read_text())
    released = json.loads((shared / "configs" / "internlm2-chat-1_8b.config.json").read_text())
    assert config.keys() == released.keys()
    changed = {key: value for key, value in config.items() if value != released[key]}
    assert changed == {
        "hidden_size": 60,
        "intermediate_size": 7,
        "max_position_embeddings": 321,
        "num_attention_heads": 6,
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
        "rope_scaling": None,
        "rope_theta": 54321.0,
        "torch_dtype": "float16",
        "vocab_size": 10,
    }
    generation = json.loads((tmp_path / "tiny" / "generation_config.json").read_text())
    assert generation == {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}


def test_tiny_tokenizer(tmp_path: Path) -> None:
    write_checkpoint(write_gguf(tmp_path / "tiny.gguf", tiny_tensors()), tmp_path / "tiny", lambda *_: None)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tiny" / "tokenizer.json"))
    assert tokenizer.encode("ab ab11<|im_end|>b<tool>").ids == [7, 8, 6, 6, 2, 4, 9]
    assert tokenizer.decode([1, 7, 9]) == "ab<tool>", "a control token is skipped, a user-defined one is text"
    config = json.loads((tmp_path / "tiny" / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert (config["bos_token"], config["eos_token"]) == ("<|im_start|>", "<|im_end|>")
    assert (config["pad_token"], config["unk_token"]) == ("<|im_end|>", "<end>")
    assert (config["add_bos_token"], config["add_eos_token"]) == (False, False)
    assert config["chat_template"] == "{{ messages[0]['content'] }}é"
    assert {index: token["special"] for index, token in config["added_tokens_decoder"].items()} == {
        "0": True,
        "1": True,
        "2": True,
        "9": False,
    }


def test_attention_scores_survive_the_change_of_rope() -> None:
    """Adjacent-pair RoPE on the source rows gives the scores that rotate-half RoPE gives on the converted rows."""
    generator = np.random.default_rng(6)
    dim, columns, theta = 14, 9, 100.0
    q, k = generator.normal(size=(2, 3 * dim, columns)).astype(np.float32)
    x, y = generator.normal(size=(2, columns))

    def rotated(head: NDArray[np.float64], position: int, pair: Callable[[int], tuple[int, int]]) -> list[complex]:
        """Each rotated pair as one complex number."""
        return [
            complex(head[pair(i)[0]], head[pair(i)[1]]) * np.exp(1j * position * theta ** (-2 * i / dim))
            for i in range(dim // 2)
        ]

    def scores(q: Floats, k: Floats, pair: Callable[[int], tuple[int, int]]) -> list[float]:
        queries, keys = (q @ x).reshape(3, dim), (k @ y).reshape(3, dim)
        return [
            sum((a * b.conjugate()).real for a, b in zip(rotated(qh, 11, pair), rotated(kh, 4, pair), strict=True))
            for qh, kh in zip(queries, keys, strict=True)
        ]

    adjacent = scores(q, k, lambda i: (2 * i, 2 * i + 1))
    halves = scores(rotate_half_rows(q, 3), rotate_half_rows(k, 3), lambda i: (i, i + dim // 2))
    np.testing.assert_allclose(halves, adjacent, rtol=1e-6)


def test_interleaving_keeps_each_group_together() -> None:
    q, k, v = (np.full((rows, 1), 0, np.float32) for rows in (12, 6, 6))
    q[:, 0] = np.repeat([1, 2, 3, 4], 3)
    k[:, 0] = np.repeat([10, 20], 3)
    v[:, 0] = np.repeat([100, 200], 3)
    fused = interleave_qkv(q, k, v, kv_heads=2, head_dim=3)
    assert fused[::3, 0].tolist() == [1, 2, 10, 100, 3, 4, 20, 200]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "gemma"}, "architecture 'gemma'.*'llama'"),
        ({"pre": "llama-bpe"}, "tokenizer.ggml.pre 'llama-bpe'.*'smollm'"),
        ({"without": "llama.block_count"}, "no metadata key 'llama.block_count'"),
    ],
)
def test_another_kind_of_model_is_refused(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", tiny_tensors(), **changes)
    with pytest.raises(CheckpointError, match=f"{path} .*{message}"):
        write_checkpoint(path, tmp_path / "tiny", lambda *_: None)
    assert not (tmp_path / "tiny").exists()


def test_a_tensor_too_many_or_too_few_is_refused(tmp_path: Path) -> None:
    tensors = tiny_tensors()
    untied = write_gguf(tmp_path / "untied.gguf", tensors | {"output.weight": tensors["token_embd.weight"]})
    with pytest.raises(CheckpointError, match=r"has a tensor 'output\.weight' that has no place"):
        write_checkpoint(untied, tmp_path / "untied", lambda *_: None)
    del tensors["blk.1.attn_k.weight"]
    lacking = write_gguf(tmp_path / "lacking.gguf", tensors)
    with pytest.raises(CheckpointError, match=r"has no tensor 'blk\.1\.attn_k\.weight'"):
        write_checkpoint(lacking, tmp_path / "lacking", lambda *_: None)


@pytest.mark.parametrize("content", [b"", b"not a GGUF file", b"GGUF\x03\x00\x00\x00"])
def test_a_file_that_is_not_gguf_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{path} cannot be read as a GGUF file"):
        write_checkpoint(path, tmp_path / "new", lambda *_: None)


def test_an_existing_folder_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine").write_text("keep")
    path = write_gguf(tmp_path / "tiny.gguf", tiny_tensors())
    with pytest.raises(OutputError, match=rf"{tmp_path / 'taken'} cannot be written"):
        write_checkpoint(path, tmp_path / "taken", lambda *_: None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["taken", "tiny.gguf"]
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["mine"]


def test_a_full_disk_is_the_users_to_mend(tmp_path: Path) -> None:
    """Small files fit and the weights do not, as when a disk runs full."""
    path = write_gguf(tmp_path / "tiny.gguf", tiny_tensors())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
    try:
        with pytest.raises(OutputError, match=rf"{tmp_path / 'full'} cannot be written \(.*large"):
            write_checkpoint(path, tmp_path / "full", lambda *_: None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.gguf"]
