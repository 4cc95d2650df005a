"""Structured outputs: which tokens may follow, so that the answer is JSON, matches a regex or obeys a grammar."""

from __future__ import annotations

from collections.abc import Sequence as Many
from functools import cached_property

import llguidance
import numpy as np
from numpy.typing import NDArray

from ilmari.engine.grammar_limits import check_json_schema, check_lark, check_regex
from ilmari.engine.sampling_params import StructuredOutputs
from ilmari.errors import RequestError
from ilmari.model.tokenizer import Tokenizer

ANY_OBJECT = '{"type": "object"}'
LIMITS = llguidance.LLParserLimits(
    max_items_in_row=500,
    initial_lexer_fuel=1_000_000,
    step_lexer_fuel=200_000,
    step_max_items=50_000,
    max_lexer_states=50_000,
    max_grammar_size=100_000,
    precompute_large_lexemes=False,
    verbose_errors=False,
)
LONGEST_REASON = 200  # characters of what the library says


class Grammars:
    """Compiles grammars for one tokenizer. Its methods may be called from several threads."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    @cached_property
    def _vocabulary(self) -> llguidance.LLTokenizer:
        """The tokens' bytes as a trie, which takes most of a second to make."""
        return llguidance.LLTokenizer(
            llguidance.TokenizerWrapper(_Bytes(self._tokenizer)),
            n_vocab=self._tokenizer.vocab_size,
            eos_token=sorted(self._tokenizer.stop_token_ids),
        )

    def prepare(self) -> None:
        """Make what all grammars share."""
        _ = self._vocabulary

    def constraint(self, structured: StructuredOutputs) -> GrammarConstraint:
        """A fresh constraint for one sequence.

        Raises:
            RequestError: the grammar is too large, or is none; the sentence says why.
        """
        name, grammar = _written(structured)
        matcher = llguidance.LLMatcher(self._vocabulary, grammar, log_level=0, limits=LIMITS)
        if matcher.is_error():
            raise _refusal(name, matcher.get_error())
        constraint = GrammarConstraint(matcher, self._tokenizer)
        constraint.allowed([])  # the first tokens cost the most, and show what compiling cannot
        if matcher.is_error():
            raise _refusal(name, matcher.get_error())
        return constraint


class GrammarConstraint:
    """One sequence's place in its grammar. Where the grammar is complete, only the model's stop tokens may follow."""

    def __init__(self, matcher: llguidance.LLMatcher, tokenizer: Tokenizer) -> None:
        self._matcher = matcher
        self._vocab_size = tokenizer.vocab_size
        self._stop_ids = sorted(tokenizer.stop_token_ids)
        self._taken = 0

    def allowed(self, output: Many[int]) -> NDArray[np.bool_]:
        """Which tokens [vocab] may follow `output`, which begins with what it was in the calls before.

        A place that takes the library more work than its limits allow is an end: only stop tokens follow.
        """
        new = list(output[self._taken :])
        self._taken = len(output)
        if not new or self._matcher.try_consume_tokens(new) == len(new):
            bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
            mask = np.unpackbits(bits, count=self._vocab_size, bitorder="little").view(np.bool_)
            if not self._matcher.is_error():
                return mask
        mask = np.zeros(self._vocab_size, np.bool_)
        mask[self._stop_ids] = True
        return mask


class _Bytes:
    """The tokenizer as llguidance asks for one."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.eos_token_id = tokenizer.eos_token_id
        self.bos_token_id = tokenizer.bos_token_id
        self.tokens = [tokenizer.id_to_bytes(token_id) for token_id in range(tokenizer.vocab_size)]
        self.special_token_ids = sorted(tokenizer.special_ids)

    def __call__(self, text: bytes) -> list[int]:
        return self._tokenizer.encode(text.decode(errors="replace"), add_bos=False)


def _written(structured: StructuredOutputs) -> tuple[str, str]:
    """The field that is given, and its grammar as the library reads it."""
    if structured.json is not None:
        check_json_schema(structured.json)
        try:
            return "json", llguidance.LLMatcher.grammar_from_json_schema(structured.json)
        except ValueError as error:  # numbers beyond float64, which Python reads
            raise _refusal("json", str(error)) from error
    if structured.regex is not None:
        check_regex("structured_outputs.regex", structured.regex)
        return "regex", llguidance.LLMatcher.grammar_from_regex(structured.regex)
    if structured.grammar is not None:
        check_lark(structured.grammar)
        return "grammar", llguidance.LLMatcher.grammar_from_lark(structured.grammar)
    return "json_object", llguidance.LLMatcher.grammar_from_json_schema(ANY_OBJECT)


def _refusal(name: str, reason: str) -> RequestError:
    brief = " ".join(reason.split())[:LONGEST_REASON].rstrip(" .")
    return RequestError(f"structured_outputs.{name} cannot be used ({brief}); correct it.")
