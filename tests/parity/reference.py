"""What transformers in float32 says of the same tokens, and how far from it an answer is."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from transformers import LlamaForCausalLM
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

Float32 = npt.NDArray[np.float32]


def reference_logits(model: LlamaForCausalLM, ids: Sequence[int]) -> Float32:
    """Logits float32 [len, vocab] of one forward pass over all the tokens."""
    with torch.inference_mode():
        logits: Float32 = model(torch.tensor([list(ids)])).logits[0].numpy()
    return logits


def rounded_to_int8(weights: Mapping[str, Float32]) -> dict[str, Float32]:
    """The projections and the head rounded to 255 levels per output channel, everything else as it is."""
    return {
        name: _round_rows(matrix) if name.endswith("_proj.weight") or name == "lm_head.weight" else matrix
        for name, matrix in weights.items()
    }


def rounded_to_bfloat16(weights: Mapping[str, Float32]) -> dict[str, Float32]:
    """Every matrix rounded to bfloat16; the norms, which are vectors, as they are."""
    return {
        name: torch.from_numpy(array).bfloat16().float().numpy() if array.ndim == 2 else array
        for name, array in weights.items()
    }


def _round_rows(matrix: Float32) -> Float32:
    """Factor first, then product, both in float32: one weight in ten thousand lies so close to a half that it goes the
    other way in other arithmetic, which would hide smaller errors than those of the rounding itself.
    """
    largest = np.abs(matrix).max(axis=1, keepdims=True)
    return np.round(matrix * (np.float32(127) / largest)) * (largest / np.float32(127))


def replace_weights(model: LlamaForCausalLM, weights: Mapping[str, Float32]) -> None:
    """Give the model other weights, all of them."""
    model.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()}, strict=True)


def fix_rope(model: LlamaForCausalLM, prompt_len: int) -> None:
    """Rotate by transformers' own dynamic frequencies for a prompt of that length, however long the sequence grows."""
    rotary = model.model.rotary_emb
    rotary.inv_freq = ROPE_INIT_FUNCTIONS["dynamic"](model.config, seq_len=prompt_len)[0]
    rotary.rope_type = "default"


def error_of_range(got: Float32, want: Float32) -> float:
    """The largest difference, as a share of the range that the reference's logits span."""
    assert got.shape == want.shape
    return float(np.abs(got - want).max() / np.ptp(want))


def shortfalls(
    model: LlamaForCausalLM, prompts: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]]
) -> npt.NDArray[np.float64]:
    """[prompts, tokens]: how far the reference's logit of each generated token lies below the reference's best, given
    the same tokens before it; 0 where a greedy reference would have chosen the same. All outputs are equally long.
    """
    texts = [[*prompt, *output] for prompt, output in zip(prompts, outputs, strict=True)]
    # What stands after a token does not change its logits, so the shorter texts are filled up with anything.
    padded = [text + [0] * (max(map(len, texts)) - len(text)) for text in texts]
    with torch.inference_mode():
        logits = model(torch.tensor(padded)).logits.numpy()
    result = []
    for prompt, output, rows in zip(prompts, outputs, logits, strict=True):
        scores = rows[len(prompt) - 1 :][: len(output)].astype(np.float64)
        result.append(scores.max(axis=1) - scores[np.arange(len(output)), list(output)])
    return np.stack(result)
