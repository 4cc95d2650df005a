"""The machines that ranks are to run on: MPI's launcher would wait for ever for one that does not answer."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence

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
    asked: list[subprocess.Popen[bytes]] = []
    until = time.monotonic() + REACH
    try:
        for host in hosts:
            asked.append(_ask([*ssh, host, "true"]))
        for host, process in zip(hosts, asked, strict=True):
            if reason := _refusal(process, until):
                raise GroupError(f"Host {host} of --hosts cannot be reached by ssh: {reason}.")
    except OSError as error:
        raise GroupError(f"--hosts needs {ssh[0]}, which does not start ({error.strerror}).") from error
    finally:
        for process in asked:
            process.kill()
            with process:  # close its pipe, and wait for its end
                pass


def _ask(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )


def _refusal(process: subprocess.Popen[bytes], until: float) -> str:
    """Why a host has not answered by then; empty if it has."""
    try:
        _, words = process.communicate(timeout=max(0.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        return f"it is silent for {REACH:g} s"
    if process.returncode == 0:
        return ""
    lines = words.decode(errors="replace").split("\n")
    said = [line.strip().rstrip(".") for line in lines if line.strip()]
    return said[-1] if said else f"exit code {process.returncode}"
