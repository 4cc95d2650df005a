"""Who a rank is, for the others and for people."""

from __future__ import annotations

import os

import msgspec

from ilmari.settings import mpi_host


class Member(msgspec.Struct, frozen=True):
    """One process of a group."""

    rank: int
    host: str
    pid: int

    @classmethod
    def self(cls, rank: int) -> Member:
        """This process."""
        return cls(rank, mpi_host(), os.getpid())

    def __str__(self) -> str:
        return f"rank {self.rank} on host {self.host}, process {self.pid}"
