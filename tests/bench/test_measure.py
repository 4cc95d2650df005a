"""What is measured and in what order, on a tiny model and an engine that is watched; no time is asserted."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from ilmari.artifact.artifact import KERNELS, Artifact
from ilmari.bench import kernels
from ilmari.bench.ceilings import INSTRUCTIONS, Ceilings, Rates
from ilmari.bench.cost import Load, Span
from ilmari.bench.profile import OUTSIDE, profile
from ilmari.bench.recorder import RecordingLibrary
from ilmari.bench.workload import Workload, check, run, seconds
from ilmari.engine.engine import Engine
from ilmari.errors import RequestError
from ilmari.kernels.compiler import SAMPLING
from ilmari.kernels.compiler import kernels as kernels_of
from ilmari.kernels.plan import Plan

SMALL = {"read_bytes": 1 << 20, "turns": 100}
RATES = Rates(10.0, {"int8": 400.0, "int16": 200.0, "bf16": 200.0, "fp32": 100.0})


@pytest.fixture(scope="module")
def artifact(compile_tiny: Callable[..., Path]) -> Artifact:
    """Prompts to 600 tokens, 1200 in all: more than one step reads."""
    return Artifact.load(compile_tiny("w8a16", lengths=(600, 1200), max_position=1200))


def test_ceilings() -> None:
    sample = Ceilings(**SMALL).sample()
    assert set(sample.gmac_s) == {name for name, instruction in INSTRUCTIONS.items() if instruction.available}
    assert "fp32" in sample.gmac_s
    assert all(0 < rate < math.inf for rate in (sample.read_gb_s, *sample.gmac_s.values()))


def test_rates_of_several_samples() -> None:
    samples = [Rates(1.0, {"fp32": 5.0}), Rates(3.0, {"fp32": 2.0})]
    assert Rates.of(samples, max) == Rates(3.0, {"fp32": 5.0})
    assert Rates.of(samples, max).fields() == {
        "read_gb_s": 3.0,
        "int8_gmac_s": None,
        "int16_gmac_s": None,
        "bf16_gmac_s": None,
        "fp32_gmac_s": 5.0,
    }


def test_one_prompt(artifact: Artifact) -> None:
    engine = Engine(artifact, max_num_seqs=1, num_speculative_tokens=0)
    result = run(engine, Workload(batch=1, input_len=520, output_len=3))
    assert [step.load for step in result.prefill] == [Load((Span(512, 512, 0),)), Load((Span(8, 520, 1),))]
    assert [step.load for step in result.decode] == [Load((Span(1, 521, 1),)), Load((Span(1, 522, 1),))]
    assert result.ttft_s >= seconds(result.prefill)
    assert not engine.has_work
    assert engine.stats().kv_blocks_used == 0


@pytest.mark.parametrize("workload", [Workload(3, 400, 4), Workload(5, 1, 2), Workload(2, 600, 3), Workload(16, 33, 5)])
def test_batch_decodes_together(artifact: Artifact, workload: Workload) -> None:
    engine = Engine(artifact, max_num_seqs=workload.batch, num_speculative_tokens=0)
    check(engine, workload)
    result = run(engine, workload)
    assert len(result.decode) == workload.output_len - 1
    for step in result.decode:
        assert [span.rows for span in step.load.spans] == [1] * workload.batch
        assert step.load.outputs == workload.batch
    prompt_rows = sum(step.load.rows for step in result.prefill)
    assert prompt_rows >= workload.batch * workload.input_len
    assert not engine.has_work


@pytest.mark.parametrize(
    ("workload", "words"),
    [
        (Workload(1, 601, 2), "--input-len is 601 and this artifact takes prompts of up to 600"),
        (Workload(1, 600, 601), "grow to 1201 tokens"),
        (Workload(9, 300, 10), "A batch of 9 sequences"),
    ],
)
def test_what_does_not_fit(artifact: Artifact, workload: Workload, words: str) -> None:
    engine = Engine(artifact, max_num_seqs=9, kv_cache_memory_bytes=1 << 21)
    with pytest.raises(RequestError, match=words):
        check(engine, workload)


def head_of_many(plan: Plan) -> str | None:
    """The kernel that only a step with logits of many tokens calls, if there is one."""
    _, *many = (form.name for _, form in plan.forms)
    return f"linear_head_{many[0]}" if many else None


def sampling_kernels() -> set[str]:
    """What a step calls when its logits are there; all but the first only to draw, not to take the best token."""
    return {generate.__name__ for generate in SAMPLING}


def test_profile_accounts_for_all_time(artifact: Artifact) -> None:
    library = RecordingLibrary(artifact.folder / KERNELS)
    limits = {"enable_prefix_caching": False, "num_speculative_tokens": 0}
    engine = Engine(artifact, max_num_seqs=2, library=library, **limits)
    runs = tuple(run(engine, Workload(2, 300, 4), library.take_calls) for _ in range(2))
    plan = artifact.manifest.plan
    result = profile(plan, runs, RATES)
    for phase in ("prefill", "decode"):
        rows = {row["kernel"]: row for row in result[phase]["kernels"]}
        assert sum(row["ms"] for row in rows.values()) == pytest.approx(result[phase]["step_ms"])
        assert sum(row["share"] for row in rows.values()) == pytest.approx(1)
        assert rows[OUTSIDE]["ms"] > 0
        assert all(row["fraction"] > 0 for name, row in rows.items() if name != OUTSIDE)
    decode = {row["kernel"]: row for row in result["decode"]["kernels"]}
    layers = plan.config.num_hidden_layers
    form = plan.form(2).name
    assert decode[f"linear_qkv_{form}"]["calls"] == decode["attention_decode"]["calls"] == layers
    assert decode[f"norm_{form}"]["calls"] == 2 * layers + 1
    shape = plan.linears["qkv"]
    assert decode[f"linear_qkv_{form}"]["mmac"] == pytest.approx(layers * 2 * shape.n * shape.k / 1e6)
    called = {row["kernel"] for phase in result.values() for row in phase["kernels"]}
    drawing = sampling_kernels() - {"logit_peaks"}
    assert called - {OUTSIDE} == set(kernels_of(plan)) - drawing - {head_of_many(plan)}


def test_unrecorded_runs_have_no_calls(artifact: Artifact) -> None:
    result = run(Engine(artifact, max_num_seqs=1), Workload(1, 4, 2))
    assert all(step.calls == () for step in result.prefill + result.decode)


def test_every_kernel_is_measured(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "Ceilings", lambda: Ceilings(**SMALL))
    measured = kernels.measure(artifact, [1, 3, 40], 100, 2, lambda *_: None)
    rows = measured.rows()
    plan = artifact.manifest.plan
    assert {row["kernel"] for row in rows} == set(kernels_of(plan)) - sampling_kernels() - {head_of_many(plan)}
    by_key = {(row["kernel"], row["rows"]): row for row in rows}
    assert len(by_key) == len(rows)
    shape = plan.linears["down"]
    for count in (1, 3, 40):
        form = plan.form(count).name
        assert by_key[f"linear_down_{form}", count]["mmac"] == pytest.approx(count * shape.n * shape.k / 1e6)
    # 3 replies of 101 tokens each; 40 tokens of one prompt
    q_size = artifact.manifest.model.q_size
    assert by_key["attention_decode", 3]["mmac"] == pytest.approx(3 * 101 * 2 * q_size / 1e6)
    assert by_key["attention_prefill", 40]["mmac"] == pytest.approx(sum(range(101, 141)) * 2 * q_size / 1e6)
    assert ("attention_decode", 40) not in by_key


@pytest.mark.parametrize(
    ("rows", "context", "words"),
    [([0], 1, "--rows has 0"), ([99999], 1, "--rows has 99999"), ([2], 1199, "a sequence of 1201 tokens")],
)
def test_rows_that_do_not_fit(artifact: Artifact, rows: list[int], context: int, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        kernels.measure(artifact, rows, context, 1, lambda *_: None)
