"""The machines that ranks are to run on: MPI's launcher would wait for ever for one that does not answer."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import IO

from ilmari.errors import ConfigError, GroupError
from ilmari.settings import hydra_ssh

REACH = 7.0
"""Seconds within which a host answers; ssh itself has five for a connection."""


def split_hosts(hosts: str, ranks: int) -> list[str]:
    """Names with commas between, each for as many ranks.

    Raises:
        ConfigError: they are no such list.
    """
    names = [name.strip() for name in hosts.split(",")]
    if not all(names) or ranks % len(names):
        raise ConfigError(
            f"--hosts is {hosts!r} and this artifact runs on {ranks} ranks; give names with commas between, of as many "
            "hosts as divide that number, this machine's first."
        )
    return names


def reach(hosts: Sequence[str]) -> None:
    """See that ssh comes to all of these; where MPI's launcher uses something else, nothing is asked.

    Raises:
        GroupError: it does not.
    """
    ssh = hydra_ssh()
    if ssh is None:
        return
    until = time.monotonic() + REACH
    with contextlib.ExitStack() as asked:
        try:
            questions = [asked.enter_context(_asked([*ssh, host, "true"])) for host in hosts]
        except OSError as error:
            raise GroupError(f"--hosts needs {ssh[0]}, which does not start ({error.strerror}).") from error
        for host, (process, words) in zip(hosts, questions, strict=True):
            if reason := _refusal(process, words, until):
                raise GroupError(f"Host {host} of --hosts cannot be reached by ssh: {reason}.")


@contextlib.contextmanager
def _asked(command: list[str]) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """A process that asks, and what it says on stderr: a file, since what it leaves behind may keep a pipe open."""
    with (
        tempfile.TemporaryFile() as words,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=words, start_new_session=True
        ) as process,
    ):
        try:
            yield process, words
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def _refusal(process: subprocess.Popen[bytes], words: IO[bytes], until: float) -> str:
    """Why a host has not answered by then; empty if it has."""
    try:
        code = process.wait(max(0.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        return f"it is silent for {REACH:g} s"
    if code == 0:
        return ""
    words.seek(0)
    lines = words.read().decode(errors="replace").split("\n")
    said = [line.strip().rstrip(".") for line in lines if line.strip()]
    return said[-1] if said else f"exit code {code}"
