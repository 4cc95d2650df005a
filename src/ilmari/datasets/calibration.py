"""Calibration data: which sets, how much of each, and the windows of tokens that they give."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from types import MappingProxyType

import numpy as np

from ilmari.datasets.ceval import Exam, Question
from ilmari.datasets.json_files import json_files, listed_records, records
from ilmari.datasets.windows import Draw, Window, long_windows, packed_windows
from ilmari.errors import ConfigError, DataError
from ilmari.model.chat import ChatTemplate
from ilmari.model.tokenizer import Tokenizer
from ilmari.report import Progress

_ENOUGH_BYTES = 256 << 20  # of C4's thousand files, one


@dataclass(frozen=True)
class Source:
    """One set on disk: `name` is a key of `SETS`, `weight` its part of a mixture, relative to the others'."""

    name: str
    path: Path
    weight: float = 1.0


@dataclass(frozen=True)
class Calibration:
    """What a model is calibrated with: `nsamples` windows of `seqlen` tokens; equal seeds draw equal windows.

    `nsamples` and the weights leave each source a window (`shares`).
    """

    sources: tuple[Source, ...]
    nsamples: int = 128
    seqlen: int = 512
    seed: int = 0

    @property
    def shares(self) -> tuple[int, ...]:
        """Windows from each source: `nsamples` split by weight, the rest going to the largest remainders."""
        total = sum(source.weight for source in self.sources)
        quotas = [self.nsamples * source.weight / total for source in self.sources]
        whole = [int(quota) for quota in quotas]
        by_remainder = sorted(range(len(quotas)), key=lambda i: whole[i] - quotas[i])
        rounded_up = by_remainder[: self.nsamples - sum(whole)]
        return tuple(count + (i in rounded_up) for i, count in enumerate(whole))


@dataclass(frozen=True)
class _Language:
    """How texts become the tokens of the model that is calibrated."""

    tokenizer: Tokenizer
    chat: ChatTemplate

    def plain(self, text: str) -> list[int]:
        return self.tokenizer.encode(text)

    def answered(self, instruction: str, context: str, answer: str) -> list[int]:
        """A request and its answer: two turns for a chat model, Alpaca's own form for a base model."""
        if not self.chat.present:
            blocks = [_PREFACE[bool(context)], f"### Instruction:\n{instruction}"]
            blocks += [f"### Input:\n{context}"] if context else []
            return self.plain("\n\n".join([*blocks, f"### Response:\n{answer}"]))
        request = f"{instruction}\n{context}" if context else instruction
        turns = [{"role": "user", "content": request}, {"role": "assistant", "content": answer}]
        return self.tokenizer.encode(self.chat.render(turns, add_generation_prompt=False), parse_special=True)


_PREFACE = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.",
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.",
)


def calibration_tokens(
    calibration: Calibration, tokenizer: Tokenizer, chat: ChatTemplate, *, max_seq_len: int, progress: Progress
) -> list[Window]:
    """The windows, int32 [seqlen] each, source by source; `progress` counts them.

    C4's are random windows of documents that are long enough; Alpaca's and C-Eval's samples are shuffled and packed,
    each with its bos token. `max_seq_len` is the most tokens that the model takes at once.

    Raises:
        ConfigError: `seqlen` is more than the model takes.
        DataError: a set is absent, damaged, not of the expected form, or too small.
        RequestError: the chat template refuses a request with its answer.
    """
    if calibration.seqlen > max_seq_len:
        raise ConfigError(
            f"`dataset.seqlen` is {calibration.seqlen}, and the model takes at most {max_seq_len} tokens; lower it."
        )
    for source in calibration.sources:
        _require(source)
    language = _Language(tokenizer, chat)
    windows: list[Window] = []
    for index, (source, count) in enumerate(zip(calibration.sources, calibration.shares, strict=True)):
        before = len(windows)
        draw = Draw(
            path=source.path,
            count=count,
            length=calibration.seqlen,
            rng=np.random.default_rng([calibration.seed, index]),
            progress=lambda done, before=before: progress(before + done, calibration.nsamples),  # type: ignore[misc]
        )
        windows += SETS[source.name].windows(draw, language)
        progress(len(windows), calibration.nsamples)
    return windows


def _require(source: Source) -> None:
    try:
        exists = source.path.exists()
    except OSError as error:
        raise DataError(f"{source.path} cannot be read: {error.strerror}.") from error
    if not exists:
        hub = SETS[source.name]
        raise DataError(
            f"{source.path} does not exist, and nothing is downloaded: fetch it yourself, for example with `hf download"
            f" {hub.repository} {hub.file} --repo-type dataset --local-dir .`, and set its `path` to that file."
        )


def _c4(draw: Draw, language: _Language) -> list[Window]:
    return long_windows(_documents(draw), language.plain, draw)


def _documents(draw: Draw) -> Iterator[str]:
    """The texts of the first files, up to the one with which there is enough."""
    files = json_files(draw.path, subfolder="en")
    ends = [0, *accumulate(files.values())]
    wanted = [(file, start) for file, start in zip(files, ends, strict=False) if start < _ENOUGH_BYTES]
    total = ends[len(wanted)]
    done = 0
    for file, start in wanted:
        for record in records(file):
            yield record.text("text")
            if (now := draw.count * (start + record.read_bytes) // (total + 1)) > done:
                draw.progress(done := now)


def _alpaca(draw: Draw, language: _Language) -> list[Window]:
    listed = [record for file in json_files(draw.path) for record in listed_records(file)]
    samples = [
        (record.text("instruction"), record.text("input") if "input" in record.fields else "", record.text("output"))
        for record in listed
    ]
    return packed_windows(samples, lambda sample: language.answered(*sample), draw)


def _ceval(draw: Draw, language: _Language) -> list[Window]:
    """Every split but the one that scores are published for, which stays unseen."""
    exam = Exam.open(draw.path)
    splits = [split for split in exam.splits if split != exam.measured]
    if not splits:
        raise DataError(f"{exam.path} has only the split {exam.measured}, which is kept for measuring; add another.")
    questions = [question for split in splits for question in exam.questions(split)]
    return packed_windows(questions, lambda question: language.plain(_solved(question)), draw)


def _solved(question: Question) -> str:
    return question.body if question.answer is None else f"{question.body}\n答案：{question.answer}"


@dataclass(frozen=True)
class _Set:
    """How a set is drawn from, and which file of which hub repository it is."""

    windows: Callable[[Draw, _Language], list[Window]]
    repository: str
    file: str


SETS: Mapping[str, _Set] = MappingProxyType(
    {
        "alpaca": _Set(_alpaca, "yahma/alpaca-cleaned", "alpaca_data_cleaned.json"),
        "c4": _Set(_c4, "allenai/c4", "en/c4-train.00000-of-01024.json.gz"),
        "ceval": _Set(_ceval, "ceval/ceval-exam", "ceval-exam.zip"),
    }
)
"""The sets that `dataset.name` may name."""
