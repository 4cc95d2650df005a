"""A reply as it comes: its text to stdout, how fast it came to a person who watches."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ilmari.settings import num_threads, set_num_threads

if TYPE_CHECKING:
    from ilmari.engine.llm import LLM
    from ilmari.engine.output import RequestOutput

_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}


@dataclass(frozen=True)
class Reply:
    """A reply and how long it took: seconds to its first token, None if it has none, and from there to its end."""

    request: RequestOutput
    first_after: float | None
    rest_took: float

    @property
    def speed(self) -> str:
        """How fast it came, in a few words."""
        if self.first_after is None:
            return "no token"
        tokens = len(self.request.outputs[0].token_ids)
        words = [f"{tokens} token{'' if tokens == 1 else 's'}", f"the first after {self.first_after:.2f} s"]
        if tokens > 1 and self.rest_took > 0:
            words.append(f"then {(tokens - 1) / self.rest_took:.1f} tokens/s")
        return ", ".join(words)


def load_model(folder: Path, threads: int | None, devices: str | None = None, hosts: str | None = None) -> LLM:
    """The artifact in `folder`, ready for one sequence at a time; on a terminal something moves meanwhile.

    `threads` are those of the kernels in each rank, for the whole process; None leaves them to the settings. `devices`
    and `hosts` are where the ranks run, as `LLM` has them.

    Raises:
        ArtifactError, ConfigError, GroupError, TargetError: as `LLM`, and for a setting that is no number of threads.
    """
    set_num_threads(threads)

    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status(f"[dim]loading {escape(str(folder))}[/dim]"):
        from ilmari.engine.llm import LLM
        from ilmari.kernels.kv_layout import BLOCK_SIZE

        llm = LLM(folder, max_num_seqs=1, devices=devices, hosts=hosts)
    tokens = llm.engine.stats().kv_blocks * BLOCK_SIZE
    ranks, count = llm.manifest.tp, num_threads()
    power = f"{ranks} ranks" if ranks > 1 else f"{count} thread{'' if count == 1 else 's'}"
    remark(f"{llm.manifest.isa} kernels, {power}, KV cache of {tokens:,} tokens")
    return llm


def write_reply(outputs: Iterable[RequestOutput]) -> Reply:
    """Write the text to stdout while it grows, then a newline; `outputs` are of one request, at least one of them.

    The first of them have no token yet while a long prompt is read.
    On a terminal, control characters are shown and not obeyed: a model can write anything.
    """
    began = time.monotonic()
    first = None
    terminal = sys.stdout.isatty()
    written = ""
    for request in outputs:
        if first is None and request.outputs[0].token_ids:
            first = time.monotonic()
        text = request.outputs[0].text
        new = text[len(written) :]
        sys.stdout.write(new.translate(_CONTROLS) if terminal else new)
        sys.stdout.flush()
        written = text
    print(flush=True)
    if first is None:
        return Reply(request, None, 0.0)
    return Reply(request, first - began, time.monotonic() - first)


def remark(text: str) -> None:
    """Tell something beside the reply to a person who watches: a dim line, if stderr is a terminal."""
    if sys.stderr.isatty():
        typer.secho(text, dim=True, err=True)
