"""Token ids to text, one token at a time."""

import codecs
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ilmari.model.tokenizer import Tokenizer

_REPLACE_EACH_BYTE = "ilmari.replace_each_byte"
# SentencePiece writes one U+FFFD for each invalid byte; Python's "replace" writes one for a whole truncated character.
codecs.register_error(_REPLACE_EACH_BYTE, lambda error: ("\ufffd" * (error.end - error.start), error.end))  # type: ignore[attr-defined]
_Utf8Decoder = codecs.getincrementaldecoder("utf-8")


class StreamDecoder:
    """Decodes one sequence as its tokens arrive.

    The pushes and the last flush, concatenated, are `tokenizer.decode(ids)`, because `decode` is written with this
    class. A token costs the same however long the text is.
    """

    def __init__(self, tokenizer: "Tokenizer", *, skip_special_tokens: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skipped_ids = tokenizer.special_ids if skip_special_tokens else frozenset[int]()
        self._utf8 = _Utf8Decoder(errors=_REPLACE_EACH_BYTE)

    def push(self, token_id: int) -> str:
        """The text that became final with this token: never half a character, and "" while one is incomplete.

        Raises:
            RequestError: `token_id` lies outside the vocabulary.
        """
        if token_id in self._skipped_ids:
            # As in SentencePiece, bytes on the two sides of a control token never form one character.
            return self.flush()
        return self._utf8.decode(self._tokenizer.id_to_bytes(token_id))

    def flush(self) -> str:
        """The text of the bytes still held back, U+FFFD for each; the decoder is then as new."""
        rest = self._utf8.decode(b"", final=True)
        self._utf8.reset()
        return rest
