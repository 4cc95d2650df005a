"""The architectures of the InternLM family, and which of them can be compiled."""

import reprlib
from dataclasses import dataclass

from ilmari.errors import CheckpointError


@dataclass(frozen=True)
class Family:
    """One entry that `architectures` of a config.json may name."""

    architecture: str
    title: str
    supported: bool


FAMILIES = (
    Family("InternLM2ForCausalLM", "InternLM2 and InternLM2.5", supported=True),
    Family("InternLM2ForRewardModel", "the InternLM2 reward models", supported=False),
    Family("InternLM3ForCausalLM", "InternLM3", supported=False),
    Family("InternLMForCausalLM", "InternLM (version 1)", supported=False),
)


def find_family(architectures: object, source: str) -> Family:
    """The supported family that `architectures` names.

    `model_type` is never asked: the first InternLM2 releases say `internlm` there.

    Args:
        architectures: the value of the key `architectures` as parsed from JSON.
        source: where it was read, for messages.

    Raises:
        CheckpointError: not a list of exactly one known and supported architecture.
    """
    supported = ", ".join(family.architecture for family in FAMILIES if family.supported)
    if not (isinstance(architectures, list) and len(architectures) == 1 and isinstance(architectures[0], str)):
        raise CheckpointError(
            f"{source}: 'architectures' is {reprlib.repr(architectures)}, but a list of exactly one name is expected; "
            f"supported: {supported}."
        )
    family = next((family for family in FAMILIES if family.architecture == architectures[0]), None)
    if family is None:
        raise CheckpointError(
            f"{source}: 'architectures' names {reprlib.repr(architectures[0])}, which ilmari does not know; "
            f"supported: {supported}."
        )
    if not family.supported:
        raise CheckpointError(
            f"{source}: 'architectures' names {family.architecture} ({family.title}), which is known but not supported "
            f"yet; supported: {supported}."
        )
    return family
