"""`ilmari serve` as a process of its own: started, asked, watched, and ended with everything that it started."""

from __future__ import annotations

import http.client
import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ILMARI = (sys.executable, "-P", "-m", "ilmari")
VASTGENX = (sys.executable, "-P", "-c", "from ilmari.compat.vastgenx import main; main()")
MODEL = "tiny"
SECONDS = 60.0
"""For anything that should take a moment; the machine may be busy."""


def serve_command(artifact: Path, *flags: str | Path, program: Sequence[str] = ILMARI) -> list[str | Path]:
    """Serve `artifact` as `MODEL` on a free port."""
    return [*program, "serve", "--model", artifact, "--served-model-name", MODEL, "--port", "0", *flags]


@dataclass(frozen=True)
class Answer:
    """A whole HTTP response; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, which is JSON."""
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """What the body says went wrong, after a check of its form."""
        assert self.status >= 400, self
        assert self.headers["content-type"] == "application/json"
        (error,) = self.json.values()
        assert error.keys() == {"message", "type", "param", "code"}
        assert error["message"].endswith("."), error
        assert "Traceback" not in error["message"]
        return dict(error)


class LiveServer:
    """A server that runs; its standard error goes to `log`."""

    def __init__(self, command: Sequence[str | Path], log: Path) -> None:
        self.log = log
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(
                list(map(str, command)),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                start_new_session=True,
            )
        try:
            self.url = self._ready_line()
            self.engines = self.children()
        except BaseException:
            self.kill()
            raise

    def _ready_line(self) -> str:
        """The URL on the first line of standard output."""
        lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        stdout = self._process.stdout
        assert stdout is not None
        threading.Thread(target=lambda: lines.put(stdout.readline()), daemon=True).start()
        line = lines.get(timeout=SECONDS)
        found = re.search(r"https?://[\w.\[\]:]+", line)
        assert found, f"{line!r}; {self.log.read_text()}"
        return found[0]

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, _, port = self.url.partition("://")[2].rpartition(":")
        return host, int(port)

    def children(self) -> set[int]:
        """The processes that it started and that have not ended: its engines."""
        of_threads = Path(f"/proc/{self._process.pid}/task").glob("*/children")
        return {int(pid) for path in of_threads for pid in path.read_text().split()}

    @contextmanager
    def open(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        """A response whose body is yet to be read; leaving early closes the connection."""
        connection = http.client.HTTPConnection(*self.address, timeout=SECONDS)
        try:
            connection.request(method, path, body, dict(headers or {}))
            with connection.getresponse() as response:
                yield response
        finally:
            connection.close()

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one request on a connection of its own."""
        with self.open(method, path, body, headers) as response:
            named = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, named, response.read())

    def get(self, path: str) -> Answer:
        """GET."""
        return self.ask("GET", path)

    def post(self, path: str, body: object, headers: Mapping[str, str] | None = None) -> Answer:
        """POST `body`: bytes as they are, anything else as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.ask("POST", path, data, {"content-type": "application/json", **(headers or {})})

    def connect(self) -> socket.socket:
        """A connection on which nothing was sent."""
        return socket.create_connection(self.address, timeout=SECONDS)

    def metric(self, name: str) -> float:
        """The sum over its labels."""
        values = re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", self.get("/metrics").body.decode(), re.MULTILINE)
        assert values, name
        return sum(map(float, values))

    @property
    def load(self) -> tuple[float, float]:
        """How many replies run and wait."""
        return self.metric("ilmari:num_requests_running"), self.metric("ilmari:num_requests_waiting")

    def wait_idle(self) -> None:
        """Wait until no reply runs or waits, and no block of the KV cache is in use."""
        wait_until(lambda: self.load == (0, 0))
        assert self.metric("ilmari:kv_cache_usage_perc") == 0

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def wait(self) -> int:
        """Wait for its end; the exit code."""
        return self._process.wait(SECONDS)

    def stop(self) -> None:
        """End it as its operator would; it leaves nothing behind, and has nothing to complain about."""
        try:
            self.signal(signal.SIGTERM)
            assert self.wait() == 0
            wait_until(lambda: not any(map(_runs, self.engines)))
            assert "Traceback" not in self.log.read_text()
        finally:
            self.kill()

    def kill(self) -> None:
        """End it and its engines at once, if they run."""
        for pid in self.children() if self._process.poll() is None else ():
            os.kill(pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


StartServer = Callable[..., LiveServer]
"""Starts a server with the flags it is given."""


def wait_until(condition: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Ask again and again until it is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to be in time"
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
