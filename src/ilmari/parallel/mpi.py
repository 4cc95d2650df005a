"""The ranks of an MPI world as a group.

Arrays go through MPI as buffers; nothing is ever pickled. Steps go over TCP, and so do signs of life (see `star`).
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec
import numpy as np
from numpy.typing import NDArray

from ilmari.errors import GroupError
from ilmari.parallel import wire
from ilmari.parallel.guarded import Guard
from ilmari.parallel.heart import BEAT, MOST_MISSED, Heart
from ilmari.parallel.member import Member
from ilmari.parallel.star import Link, Listener, Meeting, connect

if TYPE_CHECKING:
    from mpi4py import MPI

LOST = 1
"""Exit code of a rank whose group has lost another."""

_FAREWELL = 2.0  # seconds that other ranks have to leave with rank 0
_STOP = b""
_MOST_CPUS = 1 << 13


class MpiGroup:
    """All processes of the MPI world. One that dies, hangs or is cut off ends this process, with a sentence on stderr.

    rank, size, local_size: as `Group` has them; local_ranks: the ranks on this machine, in order.
    """

    def __init__(self, world: MPI.Intracomm, guard: Guard, report: Callable[[str], None]) -> None:
        """For `join`."""
        self._report = report
        self._mpi = sys.modules["mpi4py.MPI"]
        self._world = world
        self.rank = world.Get_rank()
        self.size = world.Get_size()
        self._here = world.Split_type(self._mpi.COMM_TYPE_SHARED)
        self.local_size = self._here.Get_size()
        local_ranks = np.empty(self.local_size, np.int64)
        self._here.Allgather(np.array([self.rank]), local_ranks)
        self.local_ranks: list[int] = local_ranks.tolist()
        self.me = Member.self(self.rank)
        self._links = self._meet()
        self._heart = Heart({link.beats: link.member for link in self._links}, guard, self._lost, self._told)
        self._heart.start()
        self._abandoned = False

    def all_reduce(self, array: NDArray[np.float32]) -> None:
        """As `Group` says. Both ways to add two numbers, and every algorithm of MPI's that computes a sum once, give
        the same bits to all."""
        with self._survived():
            self._world.Allreduce(self._mpi.IN_PLACE, array, self._mpi.SUM)

    def gather(self, array: NDArray[Any]) -> list[NDArray[Any]] | None:
        """As `Group` says."""
        part = np.ascontiguousarray(array)
        parts = np.empty((self.size, *part.shape), part.dtype) if self.rank == 0 else None
        with self._survived():
            self._world.Gather(_bytes(part), None if parts is None else _bytes(parts))
        return None if parts is None else list(parts)

    def broadcast(self, data: bytes | None) -> bytes:
        """As `Group` says; the wait costs no time. A rank that gets nothing, an empty string, is to leave."""
        if self._abandoned:
            raise GroupError(f"The {self.size} ranks of this model have ended, since a step failed on rank 0.")
        try:
            if self.rank == 0:
                assert data is not None
                for link in self._links:
                    wire.send(link.data, data)
                return data
            told = wire.receive(self._links[0].data)
        except OSError:
            told = None
        if told is None:  # rank 0 ended without a word: no order to leave, and the heart will say so
            self._await_the_heart()
        return told

    def same_here(self, cpus: list[int]) -> bool:
        """Whether all ranks on this machine give the same CPUs."""
        mine = np.zeros(_MOST_CPUS, np.uint8)
        mine[cpus] = 1
        theirs = np.empty((self.local_size, _MOST_CPUS), np.uint8)
        self._here.Allgather(mine, theirs)
        return bool((theirs == mine).all())

    def leave(self) -> None:
        """End the group in order, on all ranks, while no step runs."""
        if self._abandoned:
            return
        self._heart.stop()
        with contextlib.suppress(OSError):
            for link in self._links:
                if self.rank == 0:
                    wire.send(link.data, _STOP)
                else:
                    link.data.close()
        until = time.monotonic() + _FAREWELL
        if self.rank or all(_has_left(link, until) for link in self._links):
            self._mpi.Finalize()
        else:
            self.abandon()

    def abandon(self, last_words: str = "") -> None:
        """Tell the other ranks to end at once, wherever they are; this one can then do no more than end."""
        self._heart.say(last_words)
        self._abandoned = True

    def _meet(self) -> list[Link]:
        listener = Listener() if self.rank == 0 else None
        told = msgspec.msgpack.encode(listener.meeting) if listener else b""
        length = np.array([len(told)], np.int64)
        self._world.Bcast(length, 0)
        place = np.frombuffer(told.ljust(int(length[0])), np.uint8).copy()
        self._world.Bcast(place, 0)
        if listener:
            return listener.accept(self.me, self.size)
        return [connect(msgspec.msgpack.decode(place.tobytes(), type=Meeting), self.me)]

    @contextlib.contextmanager
    def _survived(self) -> Iterator[None]:
        try:
            yield
        except self._mpi.Exception:  # somebody is gone: the heart knows who
            self._await_the_heart()

    def _await_the_heart(self) -> NoReturn:
        time.sleep(2 * BEAT * MOST_MISSED)
        raise GroupError("The ranks can no longer speak with each other.")

    def _lost(self, who: str) -> None:
        self._report_and_end(f"{who[0].upper()}{who[1:-1]}: the {self.size} ranks of this model end.")

    def _told(self, why: str) -> None:
        if why and self.rank == 0:  # the others have no connection to who said it
            self._report_and_end(why)
        os._exit(LOST if why else 0)

    def _report_and_end(self, sentence: str) -> NoReturn:
        self._report(sentence)
        self.abandon(sentence)
        os._exit(LOST)


def print_loss(sentence: str) -> None:
    """Say on stderr that a rank is lost."""
    print(f"error: {sentence}", file=sys.stderr, flush=True)


def join(size: int, report: Callable[[str], None] = print_loss) -> MpiGroup:
    """Become one of the `size` ranks of the MPI world that this process was started in.

    `report` is told which rank is lost, in a thread, before this process ends.

    Raises:
        GroupError: there is no MPI, or the world has another size.
    """
    guard = Guard()
    try:
        import mpi4py

        mpi4py.rc.thread_level = "serialized"
        mpi4py.rc.finalize = False  # it would wait for ranks that are gone
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        guard.dismiss()
        raise GroupError(no_mpi(size)) from error
    world = MPI.COMM_WORLD
    if world.Get_size() != size:
        guard.dismiss()
        raise wrong_size(world.Get_size(), size)
    return MpiGroup(world.Dup(), guard, report)


def abort(code: int) -> NoReturn:
    """End all processes of the MPI world, which wait for this one to join."""
    from mpi4py import MPI

    MPI.COMM_WORLD.Abort(code)


def wrong_size(found: int, ranks: int) -> GroupError:
    """What to say where MPI has started `found` ranks for an artifact of another number."""
    return GroupError(
        f"MPI has started {found} ranks and this artifact runs on {ranks} (tp: {ranks}); start {ranks}, or compile the "
        f"model with tp: {found}."
    )


def no_mpi(size: int) -> str:
    """What to say where MPI is missing."""
    return (
        f"This artifact runs on {size} ranks over MPI, which is not installed; `pip install 'ilmari[mpi]'`, or install "
        "mpi4py for the MPI of this site."
    )


def _bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    return array.reshape(-1).view(np.uint8)


def _has_left(link: Link, until: float) -> bool:
    link.data.settimeout(max(0.01, until - time.monotonic()))
    try:
        return wire.receive(link.data) is None
    except OSError:
        return False
