"""`ilmari chat`: a conversation, in a terminal or through a pipe."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Generator, Iterator
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer

from ilmari.cli.errors import print_error
from ilmari.cli.interrupts import first_interrupt
from ilmari.cli.options import (
    DEFAULTS,
    ArtifactOption,
    Devices,
    Hosts,
    MinP,
    RepetitionPenalty,
    Seed,
    Temperature,
    Threads,
    TopK,
    TopP,
)
from ilmari.engine.sampling_params import SamplingParams
from ilmari.errors import RequestError

if TYPE_CHECKING:
    from ilmari.cli.conversation import Conversation
    from ilmari.engine.output import RequestOutput

TEMPERATURE = 0.8
TOP_P = 0.8
"""What InternLM's own chat uses."""

PROMPT = "> "
HELP = """\
/clear   start over
/help    this list
/exit    leave, as Ctrl-D does
Ctrl-C   stop a reply; what was said of it stays in the conversation"""
LEAVE_HINT = "Ctrl-C once more leaves, as /exit does."


def chat_command(
    model: ArtifactOption,
    system: Annotated[str | None, typer.Option(metavar="TEXT", help="Said to the model before all else.")] = None,
    max_tokens: Annotated[
        int | None, typer.Option(help="The most tokens of a reply.", show_default="as many as fit")
    ] = None,
    temperature: Temperature = TEMPERATURE,
    top_k: TopK = DEFAULTS.top_k,
    top_p: TopP = TOP_P,
    min_p: MinP = DEFAULTS.min_p,
    repetition_penalty: RepetitionPenalty = DEFAULTS.repetition_penalty,
    seed: Seed = DEFAULTS.seed,
    threads: Threads = None,
    devices: Devices = None,
    hosts: Hosts = None,
) -> None:
    """Talk with a model, a message a line; /help lists the commands."""
    params = SamplingParams(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        max_tokens=max_tokens,
        seed=seed,
    )

    from ilmari.cli.conversation import Conversation
    from ilmari.cli.reply import load_model

    conversation = Conversation(load_model(model, threads, devices, hosts), params, system)
    for line in _lines():
        message = line.strip()
        if message == "/exit":
            break
        if message == "/clear":
            conversation.clear()
        elif message == "/help":
            print(HELP)
        elif message.startswith("/") and message[1:].isalpha():
            print_error(f"{message} is no command; /help lists them.")
        elif message:
            _answer(conversation, message)


def _answer(conversation: Conversation, message: str) -> None:
    from ilmari.cli.reply import remark, write_reply

    with first_interrupt() if sys.stdin.isatty() else contextlib.nullcontext(Event()) as stop:
        try:
            reply = write_reply(_until(stop, conversation.stream(message)))
        except RequestError as error:
            print_error(str(error))
            return
    remark(", ".join(filter(None, (reply.speed, conversation.ending(reply.request)))))


def _until(stop: Event, outputs: Generator[RequestOutput]) -> Iterator[RequestOutput]:
    with contextlib.closing(outputs):
        for output in outputs:
            yield output
            if stop.is_set():
                return


def _lines() -> Iterator[str]:
    """Lines of stdin; on a terminal with a prompt and line editing, up to Ctrl-D or the second Ctrl-C in a row."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # bytes that are no text are the tokenizer's to refuse
    terminal = sys.stdin.isatty()
    if terminal:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401, with it `input` can edit and recall lines
    hinted = False
    while True:
        try:
            line = input(PROMPT if terminal and sys.stdout.isatty() else "")
        except EOFError:
            break
        except KeyboardInterrupt:
            if not terminal:
                raise
            if hinted:
                break
            typer.secho(f"\n{LEAVE_HINT}", dim=True, err=True)
            hinted = True
            continue
        hinted = False
        yield line
    if terminal:
        print()
