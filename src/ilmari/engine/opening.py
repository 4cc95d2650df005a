"""The engine of an artifact: in this process where it has one rank, or where this process is rank 0 of several."""

from __future__ import annotations

from ilmari.artifact.artifact import Artifact
from ilmari.engine.engine import Engine
from ilmari.engine.options import EngineOptions, Placement
from ilmari.engine.ranks import form
from ilmari.engine.remote import RemoteEngine
from ilmari.settings import mpi_world


def open_engine(artifact: Artifact, options: EngineOptions, placement: Placement) -> Engine | RemoteEngine:
    """Load an artifact that is open; as another rank than 0, do what rank 0 tells and end the process here.

    Raises:
        ArtifactError, ConfigError, GroupError, RequestError, TargetError: it cannot be loaded so.
    """
    ranks = artifact.manifest.tp
    placement.check(ranks)
    if starts_ranks(ranks):
        return RemoteEngine(artifact, options, placement)
    group = form(ranks, placement.devices)
    return Engine(Artifact.load(artifact.folder, group.rank), group=group, **options.given)


def starts_ranks(ranks: int) -> bool:
    """Whether ranks have to be started, because MPI has not."""
    return ranks > 1 and mpi_world() is None
