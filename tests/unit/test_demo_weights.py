"""The real demo weights: their tokenizer against a slow BPE, and the whole model in the reference implementation."""

import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

import gguf
import jinja2
import pytest
from tokenizers import Tokenizer

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM


@pytest.fixture(scope="module")
def tokenizer(demo_checkpoint: Path) -> Tokenizer:
    return Tokenizer.from_file(str(demo_checkpoint / "tokenizer.json"))


@pytest.fixture(scope="module")
def vocabulary(demo_gguf: Path) -> tuple[dict[str, int], dict[str, int]]:
    """Id of each token and rank of each merge, straight from the GGUF file."""
    fields = gguf.GGUFReader(demo_gguf).fields
    tokens, merges = (fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "merges"))
    return {token: index for index, token in enumerate(tokens)}, {merge: rank for rank, merge in enumerate(merges)}


def byte_characters() -> dict[int, str]:
    """GPT-2's printable stand-in for each byte: itself where Latin-1 prints it, else the next from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(0x100 + n) for n, byte in enumerate(others)}


GPT2_WORDS = re.compile(r"'(?:s|t|re|ve|m|ll|d)| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")


def slow_bpe(text: str, ids: dict[str, int], ranks: dict[str, int]) -> list[int]:
    """Split off each digit, split the rest as GPT-2 does, and merge in each word the pair of lowest rank first."""
    stand_in = byte_characters()
    found = []
    for part in re.split(r"(\d)", text):
        for word in GPT2_WORDS.findall(part):
            pieces = [stand_in[byte] for byte in word.encode()]
            while len(pieces) > 1:
                best = min(range(len(pieces) - 1), key=lambda i: ranks.get(f"{pieces[i]} {pieces[i + 1]}", math.inf))
                if f"{pieces[best]} {pieces[best + 1]}" not in ranks:
                    break
                pieces[best : best + 2] = [pieces[best] + pieces[best + 1]]
            found += [ids[piece] for piece in pieces]
    return found


ODD_TEXTS = [
    "Hello world",
    "  two  spaces, a\ttab\r\nand\n\n\nlines ",
    "it's we'll I'd THEY'RE don’t",
    "1234567 a12 3.14 v2.5-20b",
    "snake_case __init__(self) -> None: # x",
    "naïve Ĝis Ωmega Привет שלום",
    "你好，世界 🙂👩‍👩‍👧",
    "antidisestablishmentarianism",
    "\x00\x07\x1b[0m\x7f",
    "",
]


@pytest.mark.demo_model
@pytest.mark.parametrize("text", ODD_TEXTS)
def test_tokenizer_agrees_with_a_slow_bpe_and_round_trips(
    text: str, tokenizer: Tokenizer, vocabulary: tuple[dict[str, int], dict[str, int]]
) -> None:
    encoded = tokenizer.encode(text).ids
    assert encoded == slow_bpe(text, *vocabulary)
    assert tokenizer.decode(encoded) == text


@pytest.mark.demo_model
def test_special_tokens_have_their_ids(tokenizer: Tokenizer) -> None:
    assert tokenizer.get_vocab_size() == 49152
    assert tokenizer.encode("<|endoftext|><|im_start|><|im_end|><empty_output>").ids == [0, 1, 2, 16]
    assert tokenizer.encode("<|im_start|>").tokens == ["<|im_start|>"]
    assert len(tokenizer.encode("20b 1999").ids) == 8, "each digit and the space before a digit is a token"


@pytest.fixture(scope="module")
def llama(demo_checkpoint: Path) -> "LlamaForCausalLM":
    """The converted checkpoint in the reference implementation."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from demo_model import llama_from_checkpoint

    return llama_from_checkpoint(demo_checkpoint)


@pytest.mark.torch
@pytest.mark.demo_model
def test_the_model_knows_the_capital_of_france(
    llama: "LlamaForCausalLM", tokenizer: Tokenizer, demo_checkpoint: Path
) -> None:
    import torch

    template = json.loads((demo_checkpoint / "tokenizer_config.json").read_text(encoding="utf-8"))["chat_template"]
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.encode(jinja2.Template(template).render(messages=messages, add_generation_prompt=True)).ids
    ids = torch.tensor([prompt])
    reply = llama.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False)[
        0, len(prompt) :
    ]
    assert tokenizer.decode(reply.tolist(), skip_special_tokens=False) == "The capital of France is Paris.<|im_end|>"


@pytest.mark.shared
@pytest.mark.torch
@pytest.mark.demo_model
def test_perplexity_of_real_text(llama: "LlamaForCausalLM", tokenizer: Tokenizer, shared: Path) -> None:
    """The first window of 1,024 tokens; over the first eight windows the same weights give 23.6."""
    import torch

    text = (shared / "data" / "wikitext-2" / "test.txt").read_text(encoding="utf-8-sig")[:20_000]
    ids = torch.tensor([tokenizer.encode(text).ids[:1024]])
    with torch.no_grad():
        logits = llama(ids).logits[0]
    loss = torch.nn.functional.cross_entropy(logits[:-1], ids[0, 1:])
    assert loss.exp().item() == pytest.approx(10.96, rel=5e-3)
