"""The limits of an engine: their defaults, and those of one that runs in its own process."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ilmari.errors import ConfigError

MAX_NUM_SEQS = 16
MAX_NUM_BATCHED_TOKENS = 512
NUM_SPECULATIVE_TOKENS = 4


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """Limits by the names that `Engine` gives them, and checks; None leaves one at the engine's default."""

    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    kv_cache_memory_bytes: int | None = None
    enable_prefix_caching: bool | None = None
    num_speculative_tokens: int | None = None

    @property
    def given(self) -> dict[str, Any]:
        """The limits that are not left at their defaults, as keyword arguments of `Engine`."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where the ranks of an artifact run; by default on even parts of this machine's CPUs.

    devices: as `parallel.devices` reads them; hosts: names with commas between, this machine's first.
    """

    devices: str | None = None
    hosts: str | None = None

    def check(self, ranks: int) -> None:
        """Refuse hosts for an artifact of one rank.

        Raises:
            ConfigError: there are some.
        """
        if ranks == 1 and self.hosts is not None:
            raise ConfigError(
                f"--hosts is {self.hosts} and this artifact runs on one rank, here; leave it out, or compile the model "
                "with tp: 2 or more."
            )
