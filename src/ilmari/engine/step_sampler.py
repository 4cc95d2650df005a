"""One step's logits to the next token of each of its sequences."""

from collections.abc import Sequence as Many
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ilmari.engine.grammar import Grammars
from ilmari.engine.logit_rules import LogitRules
from ilmari.engine.logprobs import TokenLogprob, top_logprobs
from ilmari.engine.sampler import Sampler
from ilmari.engine.sampling_params import SamplingParams
from ilmari.engine.sequence import Sequence
from ilmari.kernels.library import KernelLibrary
from ilmari.model.tokenizer import Tokenizer


class StepSampler:
    """Draws tokens from the rows of a step's logits, with each sequence's own parameters and generator."""

    def __init__(self, library: KernelLibrary, vocab_size: int, tokenizer_folder: Path) -> None:
        """tokenizer_folder: the artifact's, read when the first grammar asks for it."""
        self._vocab_size = vocab_size
        self._tokenizer_folder = tokenizer_folder
        self._sampler = Sampler(library, vocab_size)

    def prepare_grammars(self) -> None:
        """Do now what the first grammar would otherwise wait for, and the sequences that run with it."""
        self._grammars.prepare()

    def rules(self, params: SamplingParams, prompt: Many[int], stop_ids: frozenset[int]) -> LogitRules | None:
        """What changes the logits of a new sequence; None if nothing does.

        Raises:
            RequestError: a token id outside the vocabulary, or a grammar that cannot be used.
        """
        params.check_vocabulary(self._vocab_size)
        if not LogitRules.needed(params):
            return None
        structured = params.structured_outputs
        constraint = self._grammars.constraint(structured) if structured else None
        return LogitRules(params, prompt, stop_ids, self._vocab_size, constraint)

    @cached_property
    def _grammars(self) -> Grammars:
        return Grammars(Tokenizer.load(self._tokenizer_folder))

    def begin(self, logits: NDArray[np.float32], owners: Many[Sequence]) -> None:
        """Take a step's logits float32 [rows, vocab], valid until the next call; `owners`: the sequence of each row.

        Each row lies as kernels are given arrays, and is left as it is.
        """
        assert len(logits) == len(owners)
        self._logits = logits

    def draw(self, row: int, sequence: Sequence) -> int:
        """The next token of `sequence`, its owner, after the tokens it has; its log-probabilities are kept if wanted.

        Raises:
            ArtifactError: a logit is not finite, which only broken weights or kernels produce.
        """
        logits, params = self._logits[row], sequence.params
        self._sampler.load(logits)
        if sequence.rules:
            sequence.rules.apply(self._sampler.logits, sequence.output)
            self._sampler.refresh()
        token = self._sampler.sample(params, sequence.rng)
        if params.logprobs is not None:
            sequence.logprobs.append(top_logprobs(logits, token, params.logprobs))
        return token

    def score(self, row: int, sequence: Sequence, token_id: int) -> list[TokenLogprob]:
        """How probable `token_id` of the prompt was after the tokens of this row, as `prompt_logprobs` wants it."""
        assert sequence.params.prompt_logprobs is not None
        return top_logprobs(self._logits[row], token_id, sequence.params.prompt_logprobs)
