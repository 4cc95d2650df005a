"""The compilation, step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from ilmari.artifact import params
from ilmari.artifact.artifact import KERNELS, TOKENIZER
from ilmari.artifact.manifest import SCHEMA_VERSION, Manifest
from ilmari.artifact.writer import ArtifactWriter
from ilmari.checkpoint.checkpoint import Checkpoint
from ilmari.checkpoint.tokenizer import tokenizer_files
from ilmari.compile.config import CompileConfig
from ilmari.compile.weights import packed_tensors
from ilmari.errors import ConfigError
from ilmari.kernels.isa import isa_named
from ilmari.kernels.plan import Plan
from ilmari.kernels.scheme import SCHEMES
from ilmari.kernels.target import Target, resolve_target
from ilmari.model.config import ModelConfig
from ilmari.report import Progress, Report

MAX_SEQ_LEN = 1 << 20
"""Tokens: with dynamic NTK a model has no limit of its own, but slots in the KV cache are numbered in 32 bits."""


@dataclass(frozen=True)
class Job:
    """One compilation: the recipe, its checkpoint (opened, all headers checked), the target, and all shapes."""

    config: CompileConfig
    checkpoint: Checkpoint
    target: Target
    plan: Plan


def compile_model(config: CompileConfig, *, target: str = "host", report: Report) -> Path:
    """Compile a checkpoint to an artifact at `config.output`, whole or not at all; the same input gives the same bytes.

    Returns the artifact's folder.

    Raises:
        ConfigError, CheckpointError, TargetError, OutputError: with what is to be changed.
    """
    checkpoint = Checkpoint.open(config.checkpoint)
    _check_lengths(config, checkpoint.config)
    cpu = resolve_target(target)
    plan = Plan(checkpoint.config, SCHEMES[config.scheme], isa_named(cpu.isa_name))
    job = Job(config, checkpoint, cpu, plan)
    with ArtifactWriter(config.output) as writer:
        for name, step in STEPS:
            step(job, writer, lambda done, total, name=name: report(name, done, total))  # type: ignore[misc]
    return config.output


def _check_lengths(config: CompileConfig, model: ModelConfig) -> None:
    limit = model.max_position_embeddings if model.rope_scaling is None else MAX_SEQ_LEN
    if config.max_seq_len > limit:
        raise ConfigError(
            f"{config.source}: `frontend.shape.input_ids` asks for sequences of {config.max_seq_len} tokens, and "
            f"{config.checkpoint} takes at most {limit}; lower it."
        )


Step = Callable[[Job, ArtifactWriter, Progress], None]


def _tokenizer(job: Job, writer: ArtifactWriter, progress: Progress) -> None:
    files = tokenizer_files(job.checkpoint.path, job.checkpoint.config.vocab_size)
    for done, (name, data) in enumerate(files.items(), 1):
        with writer.open(f"{TOKENIZER}/{name}") as file:
            file.write(data)
        progress(done, len(files))


def _kernels(job: Job, writer: ArtifactWriter, progress: Progress) -> None:
    from ilmari.kernels.compiler import compile_kernels

    with writer.open(KERNELS) as file:
        file.write(compile_kernels(job.plan, job.target, progress))


def _weights(job: Job, writer: ArtifactWriter, progress: Progress) -> None:
    done, total = 0, params.params_bytes(job.plan)
    with writer.open(params.FILE_NAME) as file:
        file.write(params.header_bytes(job.plan))
        for array in packed_tensors(job.checkpoint, job.plan):
            file.write(array.data.cast("B"))
            done += array.nbytes
            progress(done, total)


def _manifest(job: Job, writer: ArtifactWriter, progress: Progress) -> None:
    writer.finish(
        Manifest(
            schema_version=SCHEMA_VERSION,
            ilmari_version=version("ilmari"),
            name=job.config.name,
            model=job.checkpoint.config,
            scheme=job.plan.scheme.name,
            activation=job.plan.activation,
            isa=job.plan.isa.name,
            target=job.target,
            max_prompt_len=job.config.max_prompt_len,
            max_seq_len=job.config.max_seq_len,
            tp=1,
            files=writer.records,
        )
    )
    progress(1, 1)


STEPS: tuple[tuple[str, Step], ...] = (
    ("tokenizer", _tokenizer),  # first: cheap, and the likeliest to be wrong
    ("kernels", _kernels),
    ("weights", _weights),
    ("manifest", _manifest),  # last: it lists the digests of all the other files, and puts the artifact in its place
)
