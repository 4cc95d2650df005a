"""Servers as processes: started, asked for their address, and ended."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from os import environ
from pathlib import Path
from typing import IO, Any

from benchmarks.serving.client import Address
from benchmarks.serving.processes import resume

STARTED_S = 120
ENDED_S = 60


class Server:
    """A process that answers HTTP at `address`."""

    def __init__(self, process: subprocess.Popen[str], address: Address) -> None:
        self._process = process
        self.address = address

    @property
    def pid(self) -> int:
        return self._process.pid

    def close(self) -> None:
        """Ask it to end, and insist if it does not."""
        resume(self.pid)  # a process that is paused hears nothing
        self._process.terminate()
        try:
            self._process.wait(ENDED_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def ilmari_server(
    artifact: Path, flags: Sequence[str] = (), threads: int | None = None, log: IO[Any] | None = None
) -> Server:
    """`ilmari serve`, which prints a line with its address when it is ready; what it writes to stderr goes to `log`."""
    command = [sys.executable, "-m", "ilmari", "serve", "--model", str(artifact), "--port", "0", *flags]
    env = {"ILMARI_NUM_THREADS": str(threads)} if threads else {}
    process = _start(command, env, stdout=subprocess.PIPE, stderr=log or subprocess.DEVNULL)
    assert process.stdout
    line = process.stdout.readline()
    url = re.search(r"http://\S+", line)
    if url is None:
        process.kill()
        raise SystemExit(f"{' '.join(command)} ended with exit code {process.wait()}")
    return Server(process, Address.of(url[0]))


def llama_server(program: Path, model: Path, threads: int, sequences: int, context: int) -> Server:
    """llama.cpp's server, with a slot of `context` tokens for each of so many sequences."""
    port = _free_port()
    values = {"-m": model, "-t": threads, "-tb": threads, "-np": sequences, "-c": sequences * context, "--port": port}
    words = [str(word) for pair in values.items() for word in pair]
    # Prompts are new each time: nothing is gained by keeping a copy of old ones.
    process = _start([str(program), *words, "--cache-ram", "0"], {}, subprocess.DEVNULL, subprocess.DEVNULL)
    deadline = time.monotonic() + STARTED_S
    while not _healthy(port):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise SystemExit(f"{program} does not start")
        time.sleep(0.2)
    return Server(process, Address("127.0.0.1", port))


def _start(command: list[str], env: Mapping[str, str], stdout: Any, stderr: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, text=True, env={**environ, **env}
    )


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
