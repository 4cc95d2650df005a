"""The byte-level BPE tokenizer inside a GGUF file, as a Hugging Face `tokenizer.json` and `tokenizer_config.json`."""

from typing import Any

from gguf import TokenType
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from ilmari.demo.gguf_file import GgufFile
from ilmari.errors import CheckpointError

_SUPPORTED = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm"}


def read_tokenizer(gguf: GgufFile) -> Tokenizer:
    """The tokenizer: single digits first, then GPT-2's words, then merges of bytes; no token is added around a text.

    The vocabulary has no token for 21 bytes: U+0004, U+0006, U+0013, U+0014, U+0016, U+001D and bytes of no assigned
    character. As in the original tokenizer, they vanish from a text.

    Raises:
        CheckpointError: the file's tokenizer is of another kind.
    """
    for key, expected in _SUPPORTED.items():
        if (found := gguf.metadata(key)) != expected:
            raise CheckpointError(f"{gguf.path} has {key} {found!r}; use a GGUF file that has {expected!r} there.")
    vocabulary = {token: index for index, token in enumerate(gguf.metadata("tokenizer.ggml.tokens"))}
    merges = (merge.split(" ") for merge in gguf.metadata("tokenizer.ggml.merges"))

    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[(left, right) for left, right in merges]))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens(list(_added_tokens(gguf).values()))
    return tokenizer


def tokenizer_config(gguf: GgufFile) -> dict[str, Any]:
    """The content of `tokenizer_config.json`: special tokens by name, the chat template, and whether bos is added.

    Raises:
        CheckpointError: the metadata lacks one of them.
    """
    tokens = gguf.metadata("tokenizer.ggml.tokens")
    return {
        "add_bos_token": gguf.metadata("tokenizer.ggml.add_bos_token"),
        "add_eos_token": False,
        "added_tokens_decoder": {
            str(index): {
                "content": token.content,
                "lstrip": token.lstrip,
                "normalized": token.normalized,
                "rstrip": token.rstrip,
                "single_word": token.single_word,
                "special": token.special,
            }
            for index, token in _added_tokens(gguf).items()
        },
        "bos_token": tokens[gguf.metadata("tokenizer.ggml.bos_token_id")],
        "chat_template": gguf.metadata("tokenizer.chat_template"),
        "clean_up_tokenization_spaces": False,
        "eos_token": tokens[gguf.metadata("tokenizer.ggml.eos_token_id")],
        "model_max_length": gguf.metadata("llama.context_length"),
        "pad_token": tokens[gguf.metadata("tokenizer.ggml.padding_token_id")],
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": tokens[gguf.metadata("tokenizer.ggml.unknown_token_id")],
    }


def _added_tokens(gguf: GgufFile) -> dict[int, AddedToken]:
    """Tokens that are found in a text before anything else, by id; the control tokens among them are special."""
    kinds = zip(gguf.metadata("tokenizer.ggml.tokens"), gguf.metadata("tokenizer.ggml.token_type"), strict=True)
    return {
        index: AddedToken(token, normalized=False, special=kind == TokenType.CONTROL)
        for index, (token, kind) in enumerate(kinds)
        if kind in (TokenType.CONTROL, TokenType.USER_DEFINED)
    }
