"""The engine's process where a model has several ranks: it starts them with MPI's own launcher, and ends with them.

Rank 0 is handed the socket to the front end, which so talks to one engine as always. A line of supervision runs down
from there: the front end's end is rank 0's, this process's end is the launcher's and rank 0's, and a rank's end is
everybody's (`parallel.heart`).
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
from pathlib import Path
from typing import IO, NoReturn

from ilmari.engine.hosts import reach, split_hosts
from ilmari.errors import ConfigError, GroupError
from ilmari.parallel import nurse, wire
from ilmari.parallel.mpi import no_mpi
from ilmari.parallel.parent import die_with_parent
from ilmari.settings import with_ssh, without_mpi_world

_OF_THE_LAUNCHER = (b"[mpiexec@", b"[proxy:")

_RANK = (sys.executable, "-P", "-m", "ilmari.engine.process")

_HYDRA = (b"HYDRA", b"Intel(R) MPI")
"""What the launcher of MPICH and of Intel MPI calls itself."""

GRACE = 2.0  # seconds from rank 0's end to that of the launcher, which else is killed


def launch(front_end: socket.socket, start: bytes, ranks: int, hosts: str | None) -> int:
    """Start the ranks and give rank 0 the socket and the first message; wait for their end: the exit code.

    hosts: names with commas between, this machine's first; None: all ranks are here.

    Raises:
        GroupError: MPI's launcher is missing, or a host cannot be reached.
        ConfigError: the hosts are no such list, or TMPDIR is too long for a socket's path.
    """
    command = _mpiexec(ranks, hosts)
    with tempfile.TemporaryDirectory(prefix="ilmari-") as folder, socket.socket(socket.AF_UNIX) as listener:
        path = Path(folder) / "rank0"
        try:
            listener.bind(str(path))
        except OSError as error:
            raise ConfigError(f"No socket can be made at {path} ({error}); set TMPDIR to another folder.") from error
        listener.listen()
        with subprocess.Popen(
            [*command, *(sys.executable, "-I", "-S", nurse.__file__), *_RANK, str(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # where some say at length that a process ended; the ranks say it on stderr
            stderr=subprocess.PIPE,
            env=_environment(hosts),
            process_group=0,
            preexec_fn=die_with_parent,
        ) as mpiexec:
            started = threading.Event()
            relay = threading.Thread(target=_pass_on, args=(mpiexec.stderr, started), daemon=True)
            relay.start()
            try:
                with _accept(listener, mpiexec.pid, front_end) as rank0:
                    started.set()
                    socket.send_fds(rank0, [b"."], [front_end.fileno()])
                    wire.send(rank0, start)
                    if rank0.fileno() not in _await(rank0, front_end):
                        rank0.settimeout(GRACE)  # it sees that too, unless MPI is just beginning
                    rank0.recv(1)  # its end
                    front_end.close()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return mpiexec.wait(GRACE)
            except OSError:  # rank 0 ended before it could take anything, or does not end
                pass
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(mpiexec.pid, signal.SIGKILL)
                relay.join(GRACE)
            return mpiexec.wait()


def run_again_as_ranks(ranks: int, hosts: str | None) -> NoReturn:
    """Become MPI's launcher of this same command, as so many ranks.

    Raises:
        ConfigError, GroupError: as `launch`.
    """
    command = [*_mpiexec(ranks, hosts), sys.executable, "-P", "-m", "ilmari", *sys.argv[1:]]
    os.execve(command[0], command, _environment(hosts))


def receive_front_end(path: str) -> tuple[socket.socket, socket.socket, bytes]:
    """Rank 0's side: the socket to the front end, the one to the launcher's process, and the first message.

    Raises:
        ConfigError: that process is on another machine.
    """
    launcher = socket.socket(socket.AF_UNIX)
    try:
        launcher.connect(path)
    except FileNotFoundError as error:
        raise ConfigError(
            "This is not the machine that the command was given on; name that one first in --hosts."
        ) from error
    _, descriptors, _, _ = socket.recv_fds(launcher, 1, 1)
    start = wire.receive(launcher)
    assert start is not None
    return socket.socket(fileno=descriptors[0]), launcher, start


def _pass_on(stderr: IO[bytes], started: threading.Event) -> None:
    """Write what comes to our own stderr, but not what the launcher says when ranks end of which they have told."""
    for line in stderr:
        if not (started.is_set() and line.startswith(_OF_THE_LAUNCHER)):
            os.write(sys.stderr.fileno(), line)


def _accept(listener: socket.socket, launcher: int, front_end: socket.socket) -> socket.socket:
    """The connection of rank 0, unless the launcher or the front end ends first."""
    ended = os.pidfd_open(launcher)
    try:
        ready = _await(listener, front_end, ended)
    finally:
        os.close(ended)
    if listener.fileno() not in ready:
        raise ConnectionError
    return listener.accept()[0]


def _await(readable: socket.socket, front_end: socket.socket, *others: int) -> set[int]:
    """Wait until one of these can be read or the front end is gone."""
    poll = select.poll()
    for descriptor in (readable.fileno(), *others):
        poll.register(descriptor, select.POLLIN)
    poll.register(front_end, select.POLLRDHUP)
    return {descriptor for descriptor, _ in poll.poll()}


def _mpiexec(ranks: int, hosts: str | None) -> list[str]:
    if importlib.util.find_spec("mpi4py") is None:
        raise GroupError(no_mpi(ranks))
    beside = Path(sysconfig.get_path("scripts")) / "mpiexec"
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if found is None:
        raise GroupError(
            f"This artifact runs on {ranks} ranks over MPI, and there is no mpiexec; `pip install 'ilmari[mpi]'`, or "
            "start the command with the mpiexec or srun of this site."
        )
    version = subprocess.run([found, "--version"], capture_output=True, check=False).stdout
    if any(name in version for name in _HYDRA):
        # The ranks make an end themselves when one is lost, and say first which one.
        return [found, "-disable-auto-cleanup", *_placed(ranks, hosts), "-n", str(ranks)]
    if hosts is not None:
        raise ConfigError(f"--hosts needs the mpiexec of MPICH or Intel MPI; start the command with {found} itself.")
    return [found, "-n", str(ranks)]


def _placed(ranks: int, hosts: str | None) -> list[str]:
    """The options by which Hydra puts equal numbers of ranks on hosts."""
    if hosts is None:
        return []
    names = split_hosts(hosts, ranks)
    reach(names[1:])
    return ["-hosts", ",".join(f"{name}:{ranks // len(names)}" for name in names)]


def _environment(hosts: str | None) -> dict[str, str]:
    environment = without_mpi_world()
    return environment if hosts is None else with_ssh(environment)
