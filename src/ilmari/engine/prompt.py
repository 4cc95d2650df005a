"""What a prompt of token ids must be."""

from collections.abc import Sequence as Many

import numpy as np

from ilmari.errors import RequestError


def check_prompt(prompt: Many[int], limit: int, vocab_size: int) -> None:
    """Refuse what the engine cannot compute.

    Raises:
        RequestError: a prompt that is empty, longer than `limit`, or holds a foreign token.
    """
    if not isinstance(prompt, Many) or isinstance(prompt, str | bytes):
        raise RequestError(f"A prompt is of type {type(prompt).__name__}; give a text, or a list of token ids.")
    if not prompt:
        raise RequestError("The prompt is empty; give at least one token.")
    if len(prompt) > limit:
        raise RequestError(
            f"The prompt has {len(prompt)} tokens and this artifact takes {limit}; shorten it, or compile the "
            "model with a longer frontend.shape.input_ids."
        )
    for position, token in enumerate(prompt):
        if isinstance(token, bool) or not isinstance(token, int | np.integer):
            raise RequestError(f"Prompt token {position} is {token!r}; token ids are integers.")
        if not 0 <= token < vocab_size:
            raise RequestError(f"Prompt token {position} is {token}, outside the vocabulary of {vocab_size}.")
