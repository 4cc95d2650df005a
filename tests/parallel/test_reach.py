"""Hosts that cannot be reached when ranks are to start: the group ends at once, and its message names the host."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from checkpoints import CompileTiny, assert_one_sentence
from marked import NAME, Mark
from needs_mpi import needs_mpi

from ilmari.engine import hosts
from ilmari.errors import GroupError

HERE = Path(__file__).parent
REFUSES = "echo ssh: connect to host there port 22: No route to host >&2; exit 255"
HANGS = "exec sleep 1000"
LETS_IN_AND_HANGS = f'for last; do :; done; [ "$last" = true ] || exec env -u {NAME} sleep 20'
"""As ssh it ends by itself, in some seconds, and is not looked for."""


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What MPI's launcher, and we, use as ssh; to be written."""
    path = tmp_path / "ssh"
    path.touch(0o755)
    monkeypatch.setenv("HYDRA_LAUNCHER_EXEC", str(path))
    return path


def write(ssh: Path, command: str) -> None:
    ssh.write_text(f"#!/bin/sh\n{command}\n")


@pytest.mark.parametrize(
    ("command", "why"),
    [(REFUSES, "No route to host"), (HANGS, "it is silent for 2 s"), ("exit 3", "exit code 3")],
)
def test_who_does_not_answer(ssh: Path, monkeypatch: pytest.MonkeyPatch, command: str, why: str) -> None:
    monkeypatch.setattr(hosts, "REACH", 2.0)
    write(ssh, f'case "$*" in *there*) {command};; esac')
    hosts.reach(["here"])
    began = time.monotonic()
    with pytest.raises(GroupError, match=f"Host there of --hosts cannot be reached by ssh: .*{why}") as caught:
        hosts.reach(["here", "there", "elsewhere"])
    assert_one_sentence(caught.value)
    assert time.monotonic() - began < 30


def test_no_ssh(ssh: Path) -> None:
    ssh.unlink()
    with pytest.raises(GroupError, match="does not start") as caught:
        hosts.reach(["there"])
    assert_one_sentence(caught.value)


def test_launchers_other_than_ssh_are_not_asked(ssh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ssh.unlink()
    monkeypatch.setenv("HYDRA_LAUNCHER", "slurm")
    hosts.reach(["there"])


@needs_mpi
def test_a_command(compile_tiny: CompileTiny, ssh: Path) -> None:
    write(ssh, REFUSES)
    mark = Mark()
    command = ["generate", "--model", str(compile_tiny("w8a16", tp=2)), "--prompt", "x", "--hosts", "localhost,there"]
    done = subprocess.run(
        [sys.executable, "-m", "ilmari", *command],
        env=mark.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    mark.assert_gone(0)
    assert done.returncode == 2
    assert done.stderr == (
        "error: Host there of --hosts cannot be reached by ssh: ssh: connect to host there port 22: No route to host.\n"
    )


@needs_mpi
def test_a_program_that_is_killed_while_a_host_is_waited_for(compile_tiny: CompileTiny, ssh: Path) -> None:
    """MPI would wait for it for ever, and rank 0 in MPI."""
    write(ssh, LETS_IN_AND_HANGS)
    mark = Mark()
    command = [sys.executable, str(HERE / "answering.py"), str(compile_tiny("w8a16", tp=2)), "localhost,there"]
    with subprocess.Popen(command, env=mark.environment, stdout=subprocess.PIPE) as program:
        until = time.monotonic() + 60
        while 0 not in mark.ranks():
            assert time.monotonic() < until
            time.sleep(0.05)
        time.sleep(1)  # so that it has connected
        program.kill()
        mark.assert_gone(10)
