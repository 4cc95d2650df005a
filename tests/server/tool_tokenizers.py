"""The released InternLM2 tokenizer and the demo model's, and how llguidance sees them."""

from pathlib import Path

from llguidance import LLTokenizer, TokenizerWrapper

from ilmari.checkpoint.tokenizer import tokenizer_files
from ilmari.model.tokenizer import Tokenizer


def convert(checkpoint: Path, folder: Path, vocab_size: int) -> Tokenizer:
    """The tokenizer of a checkpoint, by way of the artifact's files in `folder`."""
    for name, content in tokenizer_files(checkpoint, vocab_size).items():
        (folder / name).write_bytes(content)
    return Tokenizer.load(folder)


class _Vocabulary:
    """What `TokenizerWrapper` asks for; a byte FF tells special tokens from text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.eos_token_id = max(tokenizer.stop_token_ids)
        self.bos_token_id = tokenizer.bos_token_id
        self.special_token_ids = sorted(tokenizer.special_ids)
        self.tokens = [
            b"\xff" * (i in tokenizer.special_ids) + tokenizer.id_to_bytes(i) for i in range(tokenizer.vocab_size)
        ]
        self._tokenizer = tokenizer

    def __call__(self, text: bytes) -> list[int]:
        return self._tokenizer.encode(text.decode(), add_bos=False)


def grammar_tokenizer(tokenizer: Tokenizer) -> LLTokenizer:
    return LLTokenizer(TokenizerWrapper(_Vocabulary(tokenizer)), n_vocab=tokenizer.vocab_size, slices=[])
