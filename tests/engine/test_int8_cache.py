"""Models with an int8 KV cache beside the same weights with a float16 one: near, reproducible, and half the memory."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ilmari import LLM, SamplingParams
from ilmari.engine.kv_cache import KvCache
from ilmari.kernels.kv_layout import BLOCK_SIZE

pytestmark = pytest.mark.usefixtures("one_linear_kernel")

PAIRS = [("w16kv8", "fp16"), ("w8a16_kv8", "w8a16"), ("w8a8_kv8", "w8a8")]
PROMPT: list[int] = np.random.default_rng(5).integers(0, 333, 200).tolist()


@pytest.fixture(params=PAIRS, ids=lambda pair: str(pair[0]))
def folders(request: pytest.FixtureRequest, compile_tiny: Callable[..., Path]) -> tuple[Path, Path]:
    """The model with the int8 cache, and with the float16 one."""
    small, large = request.param
    return compile_tiny(small), compile_tiny(large)


def cache_bytes(cache: KvCache) -> int:
    return sum(np.from_dlpack(tensor).nbytes for tensor in (*cache.keys, *cache.values))


def test_logits(folders: tuple[Path, Path]) -> None:
    """As a prompt, and token by token, for which another kernel reads the cache."""
    small, large = folders
    want = LLM(large).logits(PROMPT)
    for llm in (LLM(small), LLM(small, max_num_batched_tokens=1, max_num_seqs=1)):
        error = np.abs(llm.logits(PROMPT) - want).max() / np.ptp(want)
        print(f"\nlargest error {error:.2e} of the range")
        assert 1e-5 < error < 0.03


def test_memory(folders: tuple[Path, Path]) -> None:
    plans, caches = zip(*((llm.manifest.plan, llm.engine.cache) for llm in map(LLM, folders)), strict=True)
    per_token = [cache_bytes(cache) / cache.blocks / BLOCK_SIZE for cache in caches]
    assert per_token == [plan.kv_bytes_per_token for plan in plans]
    assert per_token[0] / per_token[1] == (64 + 4) / (64 * 2)


def test_a_batch_gives_what_each_prompt_alone_gives(folders: tuple[Path, Path]) -> None:
    llm = LLM(folders[0])
    greedy = SamplingParams(temperature=0, max_tokens=16, ignore_eos=True)
    prompts = [PROMPT[:length] for length in (1, 15, 16, 17, 40, 100)]
    alone = [llm.generate(prompt, greedy)[0].outputs[0].token_ids for prompt in prompts]
    assert [output.outputs[0].token_ids for output in llm.generate(prompts, greedy)] == alone
