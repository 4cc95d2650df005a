"""One step's logits to the next token of each of its sequences."""

from collections.abc import Sequence as Many

import numpy as np
from numpy.typing import NDArray

from ilmari.engine.logprobs import top_logprobs
from ilmari.engine.sampler import sample
from ilmari.engine.sequence import Sequence


class StepSampler:
    """Draws tokens from the rows of a step's logits, with each sequence's own parameters and generator."""

    def begin(self, logits: NDArray[np.float32], owners: Many[Sequence]) -> None:
        """Take a step's logits float32 [rows, vocab], valid until the next call; `owners`: the sequence of each row."""
        assert len(logits) == len(owners)
        self._logits = logits

    def draw(self, row: int, sequence: Sequence) -> int:
        """The next token of `sequence`, its owner, after the tokens it has; its log-probabilities are kept if wanted.

        Raises:
            ArtifactError: a logit is not finite, which only broken weights or kernels produce.
        """
        logits, params = self._logits[row], sequence.params
        history = sequence.tokens if params.repetition_penalty != 1 else ()
        token = sample(logits, params, np.array(history, np.int64), sequence.rng)
        if params.logprobs is not None:
            sequence.logprobs.append(top_logprobs(logits, token, params.logprobs))
        return token
