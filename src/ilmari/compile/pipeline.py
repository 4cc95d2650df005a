"""The compilation, step by step."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

from ilmari.artifact import params, quantization
from ilmari.artifact.artifact import KERNELS, TOKENIZER
from ilmari.artifact.manifest import SCHEMA_VERSION, Manifest
from ilmari.artifact.quantization import (
    GPTQ,
    ROUND_TO_NEAREST,
    CalibrationRecord,
    ProjectionErrors,
    Quantization,
    report_bytes,
)
from ilmari.artifact.writer import ArtifactWriter
from ilmari.checkpoint.checkpoint import Checkpoint
from ilmari.checkpoint.tokenizer import tokenizer_files
from ilmari.compile.config import CompileConfig
from ilmari.compile.quantized_layer import rounded_layer
from ilmari.compile.samples import draw_samples, fingerprint
from ilmari.compile.weights import packed_tensors
from ilmari.compile.work_folder import WorkFolder
from ilmari.datasets.windows import Window
from ilmari.errors import ConfigError
from ilmari.kernels.isa import isa_named
from ilmari.kernels.plan import Plan
from ilmari.kernels.scheme import SCHEMES
from ilmari.kernels.target import HOST, Target, resolve_target
from ilmari.model.config import ModelConfig
from ilmari.report import Progress, Report

MAX_SEQ_LEN = 1 << 20
"""Tokens: with dynamic NTK a model has no limit of its own, but slots in the KV cache are numbered in 32 bits."""


@dataclass(frozen=True)
class Job:
    """One compilation: the recipe, its checkpoint (opened, all headers checked), the target, all shapes, the output.

    work: the folder of a calibration, None without one.
    """

    config: CompileConfig
    checkpoint: Checkpoint
    target: Target
    plan: Plan
    writer: ArtifactWriter
    work: WorkFolder | None

    @property
    def quantization(self) -> Quantization | None:
        """What the artifact says about its weights, once calibration samples are there."""
        if self.plan.scheme.weights != "int8":
            return None
        if self.work is None or self.config.gptq is None:
            return Quantization(ROUND_TO_NEAREST, ROUND_TO_NEAREST, None)
        calibration = self.config.calibration
        source = " and ".join(each.name for each in calibration.sources) if calibration else "the model's own text"
        lengths = [len(sample) for sample in self.work.samples()]
        record = CalibrationRecord(source, len(lengths), max(lengths), sum(lengths), **asdict(self.config.gptq))
        return Quantization(GPTQ, ROUND_TO_NEAREST, record)


def compile_model(config: CompileConfig, *, target: str = HOST, report: Report) -> Path:
    """Compile a checkpoint to an artifact at `config.output`, whole or not at all; the same input gives the same bytes.

    Returns the artifact's folder.

    Raises:
        ConfigError, CheckpointError, TargetError, OutputError: with what is to be changed.
    """
    checkpoint = Checkpoint.open(config.checkpoint)
    _check_lengths(config, checkpoint.config)
    cpu = resolve_target(target)
    plan = Plan(checkpoint.config, SCHEMES[config.scheme], isa_named(cpu.isa_name), config.tp)
    _check_heads(config, plan)
    with ArtifactWriter(config.output) as writer, WorkFolder(config.output) if config.gptq else nullcontext() as work:
        job = Job(config, checkpoint, cpu, plan, writer, work)
        for name, step in STEPS:
            step(job, lambda done, total, name=name: report(name, done, total))  # type: ignore[misc]
    return config.output


def _check_lengths(config: CompileConfig, model: ModelConfig) -> None:
    limit = _longest(model)
    if config.max_seq_len > limit:
        raise ConfigError(
            f"{config.source}: `frontend.shape.input_ids` asks for sequences of {config.max_seq_len} tokens, and "
            f"{config.checkpoint} takes at most {limit}; lower it."
        )


def _check_heads(config: CompileConfig, plan: Plan) -> None:
    if not (config.align_qkv or plan.sharding.even):
        raise ConfigError(
            f"{config.source}: `frontend.model_kwargs.tp` is {config.tp}, which does not divide the "
            f"{plan.config.num_key_value_heads} key-value heads of {config.checkpoint}; set "
            "`frontend.model_kwargs.align_qkv: true`, so that heads are copied or padded with zeros, or another `tp`."
        )


def _longest(model: ModelConfig) -> int:
    return model.max_position_embeddings if model.rope_scaling is None else MAX_SEQ_LEN


Step = Callable[[Job, Progress], None]


def _tokenizer(job: Job, progress: Progress) -> None:
    files = tokenizer_files(job.checkpoint.path, job.checkpoint.config.vocab_size)
    for done, (name, data) in enumerate(files.items(), 1):
        with job.writer.open(f"{TOKENIZER}/{name}") as file:
            file.write(data)
        progress(done, len(files))


def _kernels(job: Job, progress: Progress) -> None:
    from ilmari.kernels.compiler import compile_kernels

    with job.writer.open(KERNELS) as file:
        file.write(compile_kernels(job.plan, job.target, progress))


def _samples(job: Job, progress: Progress) -> None:
    if job.work is None or job.config.gptq is None:
        return
    samples = None
    if job.config.calibration:
        folder, model = job.writer.path(TOKENIZER), job.checkpoint.config
        samples = draw_samples(job.config.calibration, folder, _longest(model), progress)
    job.work.begin(fingerprint(job.checkpoint, asdict(job.config.gptq), samples))
    if not job.work.has_samples:
        job.work.write_samples(samples or _own_text(job, job.work.folder / "draft", progress))


def _own_text(job: Job, folder: Path, progress: Progress) -> list[Window]:
    """The model's own text, written by a quick compilation of it that rounds to nearest."""
    from ilmari.compile.own_text import LENGTH, write_text

    length = min(LENGTH, _longest(job.checkpoint.config))
    draft = replace(
        job.config,
        max_prompt_len=1,
        max_seq_len=length,
        scheme="w8a16",
        output=folder,
        gptq=None,
        calibration=None,
        tp=1,
    )
    compile_model(draft, report=lambda *_: None)
    samples = write_text(folder, length, progress)
    shutil.rmtree(folder)
    return samples


def _calibration(job: Job, progress: Progress) -> None:
    if job.work is None or job.config.gptq is None:
        return
    layers = job.plan.config.num_hidden_layers
    if job.work.layers_done(layers) == layers:
        return
    from ilmari.compile.calibrator import Calibrator

    Calibrator(job.checkpoint, job.config.gptq, job.work.samples(), job.work.folder).run(job.work, progress)


def _weights(job: Job, progress: Progress) -> None:
    done, total = 0, job.plan.tp * params.params_bytes(job.plan)
    layer = job.work.layer if job.work else partial(rounded_layer, job.checkpoint, job.plan.whole)
    errors: list[ProjectionErrors] = []
    with ExitStack() as stack:
        # The last one opened is the first one closed and recorded: ranks are to be recorded in order.
        paths = [params.file_name(rank) for rank in range(job.plan.tp)]
        files = {path: stack.enter_context(job.writer.open(path)) for path in reversed(paths)}
        for file in files.values():
            file.write(params.header_bytes(job.plan))
        for rank, array in packed_tensors(job.checkpoint, job.plan, layer, job.config.workers, errors):
            files[paths[rank]].write(array.data.cast("B"))
            done += array.nbytes
            progress(done, total)
    if job.quantization:
        with job.writer.open(quantization.FILE_NAME) as file:
            file.write(report_bytes(job.quantization, errors))


def _manifest(job: Job, progress: Progress) -> None:
    job.writer.finish(
        Manifest(
            schema_version=SCHEMA_VERSION,
            ilmari_version=version("ilmari"),
            name=job.config.name,
            model=job.checkpoint.config,
            scheme=job.plan.scheme.name,
            activation=job.plan.activation,
            quantization=job.quantization,
            isa=job.plan.isa.name,
            target=job.target,
            max_prompt_len=job.config.max_prompt_len,
            max_seq_len=job.config.max_seq_len,
            throughput=job.config.throughput,
            tp=job.plan.tp,
            files=job.writer.records,
        )
    )
    progress(1, 1)


STEPS: tuple[tuple[str, Step], ...] = (
    ("tokenizer", _tokenizer),  # first: cheap, and the likeliest to be wrong
    ("calibration data", _samples),
    ("kernels", _kernels),
    ("calibration", _calibration),
    ("weights", _weights),
    ("manifest", _manifest),  # last: it lists the digests of all the other files, and puts the artifact in its place
)
