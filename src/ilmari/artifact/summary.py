"""What there is to know about an artifact before it runs: its manifest, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass

from ilmari.artifact import params
from ilmari.artifact.artifact import Artifact
from ilmari.artifact.quantization import Quantization
from ilmari.errors import TargetError
from ilmari.kernels.plan import Plan
from ilmari.kernels.target import Target, check_host
from ilmari.model.config import ModelConfig
from ilmari.model.cost import macs_per_token, parameters

KV_CACHES = {"float16": "float16", "int8": "int8, one scale per token and head"}
"""The KV cache by its dtype, in words."""


@dataclass(frozen=True)
class Precision:
    """Number formats, in words."""

    scheme: str
    weights: str
    embedding: str
    norms: str
    kv_cache: str
    activations: str


@dataclass(frozen=True)
class DecodeCost:
    """What one token costs a rank after `context` tokens: FLOPs (two per multiply-add), and bytes read from memory.

    Bytes are the packed weights, all but the embedding table, and the KV cache of the context.
    """

    context: int
    flops_per_token: int
    bytes_read_per_token: int


@dataclass(frozen=True)
class Summary:
    """One artifact. Sizes are in bytes, lengths in tokens; `reason` is why it does not run here, None if it does.

    kv_bytes_per_token and decode are those of each of `tp` ranks; decode gives the cost of the first token and of the
    last one that the artifact takes.
    """

    name: str
    folder: str
    ilmari_version: str
    schema_version: int
    model: ModelConfig
    parameters: int
    precision: Precision
    quantization: Quantization | None
    target: Target
    instruction_set: str
    runs_here: bool
    reason: str | None
    max_prompt_len: int
    max_seq_len: int
    scheduling: str
    tp: int
    kv_bytes_per_token: int
    decode: tuple[DecodeCost, ...]
    files: dict[str, int]


def summarize(artifact: Artifact) -> Summary:
    """Everything there is to know; reads no file but the manifest, and needs no CPU that can run the artifact."""
    manifest = artifact.manifest
    reason = _reason(artifact)
    return Summary(
        name=manifest.name,
        folder=str(artifact.folder),
        ilmari_version=manifest.ilmari_version,
        schema_version=manifest.schema_version,
        model=manifest.model,
        parameters=parameters(manifest.model),
        precision=Precision(
            scheme=manifest.scheme,
            weights=f"{manifest.plan.scheme.weights}, one scale per output channel",
            embedding=manifest.plan.scheme.embedding,
            norms="float32",
            kv_cache=KV_CACHES[manifest.plan.scheme.kv_cache],
            activations=manifest.activation,
        ),
        quantization=manifest.quantization,
        target=manifest.target,
        instruction_set=manifest.isa,
        runs_here=reason is None,
        reason=reason,
        max_prompt_len=manifest.max_prompt_len,
        max_seq_len=manifest.max_seq_len,
        scheduling="throughput" if manifest.throughput else "latency",
        tp=manifest.tp,
        kv_bytes_per_token=manifest.plan.kv_bytes_per_token,
        decode=tuple(_decode_cost(manifest.plan, context) for context in (0, manifest.max_seq_len - 1)),
        files=artifact.files,
    )


def _reason(artifact: Artifact) -> str | None:
    try:
        check_host(artifact.manifest.target, str(artifact.folder))
    except TargetError as error:
        return str(error)
    return None


def _decode_cost(plan: Plan, context: int) -> DecodeCost:
    return DecodeCost(
        context,
        flops_per_token=2 * macs_per_token(plan.local, context),
        bytes_read_per_token=params.step_params_bytes(plan) + context * plan.kv_bytes_per_token,
    )
