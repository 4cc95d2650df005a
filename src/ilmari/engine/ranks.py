"""The ranks that run one artifact: rank 0 has the engine, the others do the steps that it tells them."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

import msgspec
import numpy as np

from ilmari.artifact.artifact import Artifact
from ilmari.cpus import usable_cpus
from ilmari.engine.batch import Part, make_batch
from ilmari.engine.kv_cache import KvCache, cache_blocks
from ilmari.engine.runner import Runner
from ilmari.errors import ConfigError, IlmariError
from ilmari.kernels.attention_tiles import tile_tokens
from ilmari.parallel.devices import bind, cpus_for, even_part, parse_devices
from ilmari.parallel.group import ALONE, Group
from ilmari.parallel.member import Member
from ilmari.parallel.mpi import LOST, MpiGroup, join, print_loss, wrong_size
from ilmari.settings import mpi_world

_KINDS = {kind.__name__: kind for kind in IlmariError.__subclasses__()}
USER_ERROR = 2
"""Exit code."""

_formed: list[tuple[MpiGroup, str | None]] = []  # at most one, and the devices that it was given
_numbers = itertools.count()
_MOST_WORDS = 4096  # bytes of what a rank says of its start
_NO_WORD = b"\xc1"  # ends no MessagePack


class Load(msgspec.Struct, frozen=True, tag=True):
    """Load an artifact for rank 0's engine of a number; the limits are those of `Engine`."""

    engine: int
    folder: bytes
    max_num_seqs: int
    max_rows: int
    kv_cache_memory_bytes: int | None


class Limits(NamedTuple):
    """Those of `Engine`; `max_rows`: of a step."""

    max_num_seqs: int
    max_rows: int
    kv_cache_memory_bytes: int | None


class Do(msgspec.Struct, frozen=True, tag=True):
    """Compute an engine's step."""

    engine: int
    parts: list[Part]


class Occupy(msgspec.Struct, frozen=True, tag=True):
    """Have the memory of an engine's KV cache."""

    engine: int


class _Outcome(msgspec.Struct, frozen=True):
    """A number that a rank came to, or its user's mistake: the sentence, and its kind of `IlmariError`."""

    number: int = 0
    kind: str = ""
    error: str = ""


_encode = msgspec.msgpack.encode
_TASK: msgspec.msgpack.Decoder[Load | Do | Occupy] = msgspec.msgpack.Decoder(Load | Do | Occupy)
_DEVICES = msgspec.msgpack.Decoder(list[str])
_OUTCOME = msgspec.msgpack.Decoder(_Outcome)


def form(ranks: int, devices: str | None = None, report: Callable[[str], None] = print_loss) -> Group:
    """Gather the ranks of an artifact, each on its own CPUs: the group, on rank 0.

    The others do what rank 0's engine tells them and then end their process, here.

    devices: as `parse_devices` takes them; None: the CPUs of this machine in even parts, unless who started the ranks
    has divided them. report: is told, in a thread, of the rank whose loss ends this process.

    Raises:
        GroupError: this process is not one of so many ranks, or MPI is missing.
        ConfigError: the devices do not exist.
    """
    world = mpi_world()
    if world and world[1] != ranks:
        if world[0]:
            sys.exit(USER_ERROR)  # rank 0 says why
        raise wrong_size(world[1], ranks)
    if ranks == 1:
        if devices is not None:
            bind(cpus_for(parse_devices(devices, ranks), 0))
        return ALONE
    return _form(ranks, devices, report)


def _form(ranks: int, devices: str | None, report: Callable[[str], None]) -> Group:
    if _formed:  # a process joins once, whatever it loads
        group, placed = _formed[0]
        if devices != placed:
            raise ConfigError(
                f"The ranks of this process were given devices {placed} and cannot move to {devices}; give the same "
                "again."
            )
        return group
    group = join(ranks, report)
    _formed.append((group, devices))
    atexit.register(group.leave)
    if group.rank:
        _bind_ranks(group, _DEVICES.decode(group.broadcast(None) or _encode([])))
        _follow_or_end(group)
    chosen = parse_devices(devices, ranks) if devices is not None else []
    _bind_ranks(group, _DEVICES.decode(group.broadcast(_encode(chosen))))
    return group


def _follow_or_end(group: MpiGroup) -> NoReturn:
    try:
        follow(group)
    except Exception:
        # Others would wait for ever for a rank that waits in turn for MPI's end.
        traceback.print_exc()
        group.abandon(f"The {group.size} ranks of this model end: {group.me}, has failed.")
        os._exit(LOST)
    sys.exit(0)


def follow_rank0(ranks: int) -> None:
    """Where MPI has started this process as another rank than 0: do what rank 0's engine tells it, and end here.

    Raises:
        GroupError: as `form`.
    """
    world = mpi_world()
    if world and world[0]:
        form(ranks)


def follow(group: Group) -> None:
    """Load what rank 0 loads, and do its engines' steps until it leaves; for all other ranks."""
    engines: dict[int, tuple[Runner, KvCache]] = {}
    while told := group.broadcast(None):
        task = _TASK.decode(told)
        if isinstance(task, Load):
            if loaded := _load(group, task):
                engines[task.engine] = loaded
            continue
        runner, cache = engines[task.engine]
        if isinstance(task, Do):
            runner.forward(make_batch(task.parts, tile_tokens(runner.plan.local.q_per_kv)), cache)
        else:
            cache.occupy(group.local_size)
            confirm(group, 0)


def _load(group: Group, load: Load) -> tuple[Runner, KvCache] | None:
    outcome: int | IlmariError
    try:
        artifact = Artifact.load(Path(os.fsdecode(load.folder)), group.rank)
        runner = Runner(artifact, load.max_rows, group=group)
        outcome = blocks_of(artifact, load, group)
    except IlmariError as error:
        outcome = error
    confirm(group, outcome)
    blocks = int.from_bytes(group.broadcast(None), "little")
    return (runner, KvCache(runner.plan, blocks)) if blocks else None


class Others:
    """The other ranks, for rank 0's engine; there may be none."""

    def __init__(self, group: Group, artifact: Artifact, limits: Limits) -> None:
        """Have them load; `agree` is to follow."""
        self._group = group
        self._load = load = Load(next(_numbers), os.fsencode(artifact.folder.resolve()), *limits)
        if group.size > 1:
            group.broadcast(_encode(load))

    def agree(self, artifact: Artifact) -> int:
        """How many blocks of KV cache every rank has room for.

        Raises:
            IlmariError: what kept a rank from loading, of its own kind.
        """
        blocks = blocks_of(artifact, self._load, self._group)
        if self._group.size > 1:
            try:
                blocks = confirm(self._group, blocks)
            except IlmariError:
                self._conclude(0)
                raise
            self._conclude(blocks)
        return blocks

    def forget(self) -> None:
        """In place of `agree`, where this rank cannot load: tell them, after they have said whether they can."""
        if self._group.size > 1:
            with contextlib.suppress(IlmariError):
                confirm(self._group, 0)
            self._conclude(0)

    def _conclude(self, blocks: int) -> None:
        """All ranks have the engine, with so many blocks; 0: none has."""
        self._group.broadcast(blocks.to_bytes(8, "little"))

    @contextlib.contextmanager
    def doing(self, parts: list[Part]) -> Iterator[None]:
        """Have them do a step, which this rank does meanwhile. If it fails here they end, since none can leave it."""
        if self._group.size == 1:
            yield
            return
        try:
            self._group.broadcast(_encode(Do(self._load.engine, parts)))
            yield
        except BaseException:
            self._group.abandon()
            raise

    def occupy(self, cache: KvCache) -> None:
        """Have the memory of their KV caches, and of this rank's."""
        if self._group.size > 1:
            self._group.broadcast(_encode(Occupy(self._load.engine)))
        cache.occupy(self._group.local_size)
        if self._group.size > 1:
            confirm(self._group, 0)  # wait for them


def blocks_of(artifact: Artifact, load: Load, group: Group) -> int:
    """The blocks of KV cache that this rank has room for."""
    return cache_blocks(artifact.manifest, load.max_num_seqs, load.kv_cache_memory_bytes, group.local_size)


def confirm(group: Group, outcome: int | IlmariError) -> int:
    """Tell rank 0 how something went here; there, the least number that a rank came to.

    Raises:
        IlmariError: on rank 0, the first one that a rank met.
    """
    if isinstance(outcome, int):
        words = _encode(_Outcome(outcome))
    else:
        error = f"{Member.self(group.rank)}: {outcome}" if group.rank else str(outcome)
        words = _encode(_Outcome(0, type(outcome).__name__, error[: _MOST_WORDS // 5]))
    told = group.gather(np.frombuffer(words.ljust(_MOST_WORDS, _NO_WORD), np.uint8))
    outcomes = [_OUTCOME.decode(each.tobytes().rstrip(_NO_WORD)) for each in told or ()]
    for its in outcomes:
        if its.error:
            raise _KINDS[its.kind](its.error)
    return min((its.number for its in outcomes), default=0)


def _bind_ranks(group: MpiGroup, devices: list[str]) -> None:
    outcome: int | IlmariError = 0
    try:
        usable, place = usable_cpus(), group.local_ranks.index(group.rank)
        if devices:
            bind(cpus_for([devices[rank] for rank in group.local_ranks], place))
        elif group.same_here(usable):
            bind(even_part(usable, place, group.local_size))
    except ConfigError as error:
        outcome = error
    confirm(group, outcome)
