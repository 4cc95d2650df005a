"""Log-probabilities of a prompt's own tokens, against the logits, however the prompt is computed."""

from typing import Any

import numpy as np
import pytest
from checkpoints import CompileTiny

from ilmari import SamplingParams
from ilmari.artifact.artifact import Artifact
from ilmari.engine.opening import open_engine
from ilmari.engine.options import EngineOptions, Placement

pytestmark = pytest.mark.usefixtures("ranks_as_threads")

PARAMS = SamplingParams(temperature=0, max_tokens=20, ignore_eos=True, prompt_logprobs=3)
PROMPTS: list[list[int]] = [
    np.random.default_rng(length).integers(3, 333, length).tolist() for length in (100, 1, 2, 40, 17)
]


@pytest.fixture(scope="module", params=[1, 2], ids="tp{}".format)
def artifact(request: pytest.FixtureRequest, compile_tiny: CompileTiny) -> Artifact:
    return Artifact.open(compile_tiny("w8a16", tp=request.param))


@pytest.mark.parametrize("limits", [{}, {"max_num_batched_tokens": 16, "max_num_seqs": 3}, {"blocks": 8}], ids=str)
def test_prompt_logprobs_are_those_of_the_logits(artifact: Artifact, limits: dict[str, Any]) -> None:
    """Whole prompts and pieces, and prompts that are computed again."""
    if "blocks" in limits:
        limits = {"kv_cache_memory_bytes": limits["blocks"] * 16 * artifact.manifest.plan.kv_bytes_per_token}
    engine = open_engine(artifact, EngineOptions(**limits), Placement())
    sequences = [engine.add(prompt, PARAMS, frozenset()) for prompt in PROMPTS]
    while engine.has_work:
        for sequence in engine.step():
            assert sequence.output
    for sequence, prompt in zip(sequences, PROMPTS, strict=True):
        assert len(sequence.output) == 20
        first, *rest = sequence.prompt_logprobs
        assert first is None
        assert len(rest) == len(prompt) - 1
        logits = engine.logits(prompt).astype(np.float64)
        want = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        for token, row, entries in zip(prompt[1:], want, rest, strict=False):
            assert entries is not None
            best = np.argsort(-row)[:3].tolist()
            assert [entry.token_id for entry in entries] == ([] if token in best else [token]) + best
            for entry in entries:
                assert entry.logprob == pytest.approx(row[entry.token_id], abs=1e-6)


def test_no_prefix_is_reused_where_its_logits_are_wanted(artifact: Artifact) -> None:
    engine = open_engine(artifact, EngineOptions(), Placement())
    plain = SamplingParams(temperature=0, max_tokens=1)
    for params, cached in ((PARAMS, 0), (plain, 96), (PARAMS, 0)):
        sequence = engine.add(PROMPTS[0], params, frozenset())
        while engine.has_work:
            engine.step()
        assert sequence.cached_tokens == cached
        assert len(sequence.prompt_logprobs) == (100 if params is PARAMS else 0)
