"""The models that a server has, by name."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from ilmari.engine.client import EngineClient
from ilmari.server.errors import ApiError


@dataclass(frozen=True)
class ServedModel:
    """An engine and what its model is called. max_model_len: the most tokens of prompt and reply together."""

    name: str
    engine: EngineClient
    max_model_len: int
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def max_prompt_len(self) -> int:
        """The most tokens of a prompt; there is room for a token of the reply."""
        return min(self.engine.manifest.max_prompt_len, self.max_model_len - 1)

    @cached_property
    def fingerprint(self) -> str:
        """OpenAI's `system_fingerprint`: the same only for the same files."""
        digests = "".join(file.sha256 for file in self.engine.manifest.files)
        return f"fp_{hashlib.sha256(digests.encode()).hexdigest()[:16]}"


@dataclass(frozen=True)
class Models:
    """Models by the names that requests give; a model may have several."""

    by_name: Mapping[str, ServedModel]

    @property
    def all(self) -> list[ServedModel]:
        """Each once."""
        return list({id(model.engine): model for model in self.by_name.values()}.values())

    def named(self, name: str | None) -> ServedModel:
        """The model of this name; None is the only one.

        Raises:
            ApiError: there is none, or more than one to choose from.
        """
        if name is None:
            if len(self.all) > 1:
                raise ApiError(400, f"This server has several models; name one: {self._names}.", param="model")
            return self.all[0]
        if name not in self.by_name:
            raise ApiError(
                404, f"There is no model {name!r}; there is {self._names}.", param="model", code="model_not_found"
            )
        return self.by_name[name]

    @property
    def _names(self) -> str:
        return ", ".join(self.by_name)
