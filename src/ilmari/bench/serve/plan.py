"""What is to be measured: points of a grid, and everything that decides their figures."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

PROMPTS_PER_CLIENT = 5
PROMPTS_OF_OPEN_LOOP = 100


class Endpoint(StrEnum):
    """Which of OpenAI's two APIs."""

    CHAT = "chat"
    COMPLETIONS = "completions"

    @property
    def path(self) -> str:
        """After the API's version."""
        return "/chat/completions" if self is Endpoint.CHAT else "/completions"


class Dataset(StrEnum):
    """What is asked: random words, the same random words always, or the prompts of a file."""

    RANDOM = "random"
    FIXED = "fixed"
    CUSTOM = "custom"


class Grid(StrEnum):
    """Grids that have a name."""

    RECIPE = "recipe"


@dataclass(frozen=True)
class Lists:
    """The axes of a grid."""

    input_lens: tuple[int, ...]
    output_lens: tuple[int, ...]
    max_concurrencies: tuple[int, ...]


GRIDS = {Grid.RECIPE: Lists((510, 1020, 2040), (512, 1024, 2048), (1, 4, 8, 16))}
ONE_POINT = Lists((512,), (128,), (1,))


@dataclass(frozen=True)
class Point:
    """One measurement: either so many clients that wait for their replies, or so many requests a second.

    input_len: tokens of a prompt, None where prompts come from a file.
    """

    input_len: int | None
    output_len: int
    max_concurrency: int | None
    request_rate: float | None
    num_prompts: int

    @property
    def numbers(self) -> tuple[int, ...]:
        """Those that tell it from the other points of a grid, as a seed takes them."""
        return self.input_len or 0, self.output_len, self.max_concurrency or 0, round(1e6 * (self.request_rate or 0))

    @property
    def label(self) -> str:
        """For people to read."""
        if self.max_concurrency is None:
            load = f"{self.request_rate:g} a second"
        else:
            load = f"{self.max_concurrency} client{'' if self.max_concurrency == 1 else 's'}"
        return f"{'own prompts' if self.input_len is None else self.input_len} in, {self.output_len} out, {load}"


@dataclass(frozen=True)
class Settings:
    """As the user gave them, lists as axes of a grid; `request_rates` are in place of `max_concurrencies` if given.

    input_lens: `(None,)` for prompts from a file, whose SHA-256 is `dataset_sha256`.
    """

    base_url: str
    endpoint: Endpoint
    model: str
    dataset_name: Dataset
    dataset_sha256: str | None
    input_lens: Sequence[int | None]
    output_lens: Sequence[int]
    max_concurrencies: Sequence[int]
    request_rates: Sequence[float]
    num_prompts: int | None
    num_warmups: int
    seed: int
    ignore_eos: bool
    percentiles: Sequence[float]
    goodput: Mapping[str, float] = field(default_factory=dict)
    extra_body: Mapping[str, Any] = field(default_factory=dict)

    def points(self) -> list[Point]:
        """The grid, its last axis the fastest."""
        lengths = itertools.product(self.input_lens, self.output_lens)
        if self.request_rates:
            count = self.num_prompts or PROMPTS_OF_OPEN_LOOP
            return [
                Point(inputs, outputs, None, rate, count) for inputs, outputs in lengths for rate in self.request_rates
            ]
        return [
            Point(inputs, outputs, clients, None, self.num_prompts or PROMPTS_PER_CLIENT * clients)
            for inputs, outputs in lengths
            for clients in self.max_concurrencies
        ]

    def fields(self) -> dict[str, Any]:
        """As JSON has them."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
