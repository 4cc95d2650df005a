"""Which kernel a linear layer runs: float32 activations for few rows, bfloat16 ones for many where the CPU has them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ilmari import LLM
from ilmari.kernels.plan import FLOAT_FORMS


@pytest.mark.parametrize("scheme", ["fp16", "bf16"])
def test_many_rows_are_rounded_and_few_are_not(
    compile_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    artifact = compile_tiny(scheme)
    llm = LLM(artifact)
    rows, _ = FLOAT_FORMS[1]
    ids = np.random.default_rng(3).integers(0, 333, rows).tolist()
    few, many = llm.logits(ids[:-1]), llm.logits(ids)
    monkeypatch.setattr("ilmari.kernels.plan.FLOAT_FORMS", FLOAT_FORMS[:1])
    exact_llm = LLM(artifact)
    np.testing.assert_array_equal(exact_llm.logits(ids[:-1]), few)
    exact = exact_llm.logits(ids)
    error = np.abs(many - exact).max() / np.ptp(exact)
    assert (1e-4 < error < 2e-2) if llm.manifest.plan.bf16_dot else error == 0
