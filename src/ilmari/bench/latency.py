"""How long a model takes, in rounds between measurements of the machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median

from ilmari.artifact.artifact import KERNELS, Artifact
from ilmari.bench.ceilings import Ceilings, Pick, Rates
from ilmari.bench.cost import step_cost
from ilmari.bench.recorder import ALL_REDUCE, RecordingLibrary, TimedGroup
from ilmari.bench.workload import Phase, Run, Workload, check, run, seconds
from ilmari.engine.engine import Engine
from ilmari.kernels.plan import Plan
from ilmari.parallel.group import ALONE, Group
from ilmari.report import Report

ALL_REDUCE_FIELDS = ("all_reduce_ms", "all_reduce_fraction", "prefill_all_reduce_fraction")


@dataclass(frozen=True)
class Round:
    """A run, and the better of two measurements of the machine, before and after it."""

    rates: Rates
    run: Run


@dataclass(frozen=True)
class Measured:
    """Rounds of a workload; `profiled` are runs on an engine of the same artifact that records calls, if asked for."""

    plan: Plan
    workload: Workload
    rounds: tuple[Round, ...]
    profiled: tuple[Run, ...]

    def rates(self, pick: Pick) -> Rates:
        """The machine's rates over all rounds."""
        return Rates.of([each.rates for each in self.rounds], pick)

    def fields(self, *, best: bool) -> dict[str, float | None]:
        """The figures of JSON: the best of all rounds, or the median.

        prefill_tok_s: tokens of all prompts over the prefill's seconds. decode_tok_s: tokens of all sequences over the
        decode's seconds; tpot_ms: milliseconds from a sequence's token to its next. A fraction is the least time that
        `step_cost` allows for the steps at the rates of the machine, over the time that they took. all_reduce_ms: of a
        decode step; all_reduce_fraction: of all its time, and prefill_all_reduce_fraction of the prefill's; None where
        there is one rank.
        """
        slow, fast = (min, max) if best else (median, median)
        runs = [each.run for each in self.rounds]
        rates = self.rates(fast)
        prefill = slow([seconds(each.prefill) for each in runs])
        decode = slow([seconds(each.decode) for each in runs])
        steps, batch = self.workload.output_len - 1, self.workload.batch
        return {
            "prefill_tok_s": batch * self.workload.input_len / prefill,
            "decode_tok_s": batch * steps / decode,
            "ttft_ms": 1e3 * slow([each.ttft_s for each in runs]),
            "tpot_ms": 1e3 * decode / steps,
            **rates.fields(),
            "prefill_fraction": self._least(runs[0].prefill, rates) / prefill,
            "decode_fraction": self._least(runs[0].decode, rates) / decode,
            **self._all_reduce(slow),
        }

    def _all_reduce(self, pick: Callable[[list[float]], float]) -> dict[str, float | None]:
        if self.plan.tp == 1:
            return dict.fromkeys(ALL_REDUCE_FIELDS)
        runs = [each.run for each in self.rounds]
        figures = (
            1e3 * pick([_summing(run.decode) / len(run.decode) for run in runs]),
            pick([_summing(run.decode) / seconds(run.decode) for run in runs]),
            pick([_summing(run.prefill) / seconds(run.prefill) for run in runs]),
        )
        return dict(zip(ALL_REDUCE_FIELDS, figures, strict=True))

    def _least(self, phase: Phase, rates: Rates) -> float:
        return sum(step_cost(self.plan, step.load).seconds(rates) for step in phase)


def _summing(phase: Phase) -> float:
    """Seconds in sums over the ranks."""
    return sum(call.seconds for step in phase for call in step.calls if call.name == ALL_REDUCE)


def measure(
    artifact: Artifact, workload: Workload, rounds: int, report: Report, *, profile: bool, group: Group = ALONE
) -> Measured:
    """Run the workload once to warm up, then `rounds` times between measurements of the machine.

    `group`: the ranks that run it, of which this is rank 0. With `profile` each round has one more run, on an engine of
    its own that records every call of a kernel.

    Raises:
        RequestError: as `check`.
    """
    # Every round is to compute everything, and one token of each reply at a time.
    timed = TimedGroup(group)
    new_engine = partial(
        Engine,
        artifact,
        max_num_seqs=workload.batch,
        enable_prefix_caching=False,
        num_speculative_tokens=0,
        group=timed,
    )
    engine = new_engine()
    check(engine, workload)
    report("compile the ceilings' kernels", 0, 1)
    ceilings = Ceilings()
    report("compile the ceilings' kernels", 1, 1)
    report("warm up", 0, 1)
    run(engine, workload)
    recorder, recorded = None, None
    if profile:
        recorder = RecordingLibrary(artifact.folder / KERNELS)
        recorded = new_engine(library=recorder)
        take_kernels = recorder.take_calls
        run(recorded, workload)
    report("warm up", 1, 1)
    samples: list[Round] = []
    profiled: list[Run] = []
    before = ceilings.sample()
    for done in range(rounds):
        report("rounds of ceilings, prefill and decode", done, rounds)
        sample = run(engine, workload, timed.take_calls)
        after = ceilings.sample()
        samples.append(Round(Rates.of([before, after], max), sample))
        if recorder and recorded:
            profiled.append(run(recorded, workload, lambda: (*take_kernels(), *timed.take_calls())))
            after = ceilings.sample()
        before = after
    report("rounds of ceilings, prefill and decode", rounds, rounds)
    return Measured(artifact.manifest.plan, workload, tuple(samples), tuple(profiled))
