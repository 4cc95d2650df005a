"""The nginx example, run: TLS, events one by one, bounds, and its own errors in the form of the API's."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from certificate import make_certificate
from deployment import DEPLOY

from ilmari.server.errors import TYPES
from ilmari.server.limits import MAX_BODY_BYTES

SECONDS = 20.0
MAIN = """
daemon off;
{user}
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/ilmari.conf;
}}
"""


class Upstream(ThreadingHTTPServer):
    """In the server's place: says what it was sent, and streams an event for each `more` that is released."""

    daemon_threads = True

    def __init__(self) -> None:
        self.more = threading.Semaphore(0)
        self.client_left = threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Upstream

    def do_GET(self) -> None:
        self._answer(self.path)

    def do_POST(self) -> None:
        received = len(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/stream":
            self._stream()
        else:
            self._answer(received)

    def _answer(self, received: object) -> None:
        body = json.dumps({"received": received, "headers": {k.lower(): v for k, v in self.headers.items()}}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        number = 0
        try:
            while self.server.more.acquire(timeout=SECONDS):
                event = b"data: %d\n\n" % number
                self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
                number += 1
        except ConnectionError:
            self.server.client_left.set()
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Nothing."""


class Proxy:
    """nginx with the example's configuration before `upstream`."""

    def __init__(self, folder: Path, upstream_port: int, certificate: tuple[Path, Path]) -> None:
        self.port, self.plain_port = _free_ports()
        self.context = ssl.create_default_context(cafile=certificate[0])
        site = (DEPLOY / "nginx" / "ilmari.conf").read_text(encoding="utf-8")
        for old, new in {
            "listen 443 ": f"listen 127.0.0.1:{self.port} ",
            "listen 80;": f"listen 127.0.0.1:{self.plain_port};",
            "server 127.0.0.1:8000;": f"server 127.0.0.1:{upstream_port};",
            "/etc/ilmari/tls/fullchain.pem": str(certificate[0]),
            "/etc/ilmari/tls/privkey.pem": str(certificate[1]),
            "/var/log/nginx/ilmari.log": f"{folder}/access.log",
        }.items():
            assert site.count(old) == 1, old
            site = site.replace(old, new)
        (folder / "ilmari.conf").write_text(site)
        # Its workers must be able to write into the folder of this test.
        user = "user root;" if os.geteuid() == 0 else ""
        (folder / "nginx.conf").write_text(MAIN.format(folder=folder, user=user))
        command = ["nginx", "-p", str(folder), "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf"]
        checked = subprocess.run([*command, "-t"], capture_output=True, text=True, timeout=SECONDS)
        assert checked.returncode == 0, checked.stderr
        assert "warn" not in checked.stderr
        self.process = subprocess.Popen(command)
        self._wait()

    def _wait(self) -> None:
        end = time.monotonic() + SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                assert time.monotonic() < end
                time.sleep(0.02)
            else:
                return

    def connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=SECONDS, context=self.context)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
        """Status and JSON of a response."""
        connection = self.connect()
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            with connection.getresponse() as response:
                return response.status, json.loads(response.read())
        finally:
            connection.close()


def _free_ports() -> list[int]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return [one.getsockname()[1], other.getsockname()[1]]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    if shutil.which("nginx") is None:
        pytest.skip("there is no nginx; Debian's package nginx has it")
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    server = Upstream()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def start_proxy(tmp_path: Path, certificate: tuple[Path, Path]) -> Iterator[Callable[[int], Proxy]]:
    """A function that starts nginx before a port."""
    started: list[Proxy] = []

    def start(upstream_port: int) -> Proxy:
        started.append(Proxy(tmp_path, upstream_port, certificate))
        return started[-1]

    yield start
    for proxy in started:
        proxy.process.terminate()
        assert proxy.process.wait(SECONDS) == 0


@pytest.fixture
def proxy(start_proxy: Callable[[int], Proxy], upstream: Upstream) -> Proxy:
    return start_proxy(upstream.server_address[1])


def test_events_come_one_by_one_and_a_client_that_leaves_is_noticed(proxy: Proxy, upstream: Upstream) -> None:
    connection = proxy.connect()
    connection.request("POST", "/stream", b"{}")
    upstream.more.release()
    response = connection.getresponse()
    for number in range(3):  # the next one is sent when this one has come
        assert response.readline() + response.readline() == b"data: %d\n\n" % number
        upstream.more.release()
    response.close()
    connection.close()
    end = time.monotonic() + SECONDS
    while not upstream.client_left.is_set():
        assert time.monotonic() < end
        upstream.more.release()
        time.sleep(0.02)


def test_bodies_are_bounded_as_by_the_server(proxy: Proxy) -> None:
    status, answer = proxy.ask("POST", "/", b"a" * MAX_BODY_BYTES)
    assert (status, answer["received"]) == (200, MAX_BODY_BYTES)
    status, answer = proxy.ask("POST", "/", b"a" * (MAX_BODY_BYTES + 1))
    assert (status, answer["error"]["type"]) == (413, TYPES[413])


def test_requests_have_ids_and_keys_go_through(proxy: Proxy, tmp_path: Path) -> None:
    _, answer = proxy.ask("GET", "/", x_request_id="mine", authorization="Bearer key")
    assert answer["headers"]["x-request-id"] == "mine"
    assert answer["headers"]["authorization"] == "Bearer key"
    _, answer = proxy.ask("GET", "/")
    made = answer["headers"]["x-request-id"]
    assert re.fullmatch("[0-9a-f]{32}", made)
    assert [line.split()[1] for line in (tmp_path / "access.log").read_text().splitlines()] == ["mine", made]


def test_too_many_requests_are_refused(proxy: Proxy) -> None:
    answers = [proxy.ask("GET", "/") for _ in range(40)]
    refused = [answer for status, answer in answers if status == 429]
    assert refused
    assert {answer["error"]["type"] for answer in refused} == {TYPES[429]}
    assert [status for status, _ in answers[:21]] == [200] * 21


def test_a_server_that_is_away(start_proxy: Callable[[int], Proxy]) -> None:
    status, answer = start_proxy(_free_ports()[0]).ask("GET", "/v1/models")
    assert (status, answer["error"]["type"]) == (502, TYPES[503])


def test_metrics_are_not_for_everybody_and_nothing_is_without_tls(proxy: Proxy) -> None:
    connection = proxy.connect()
    connection.request("GET", "/metrics")
    with connection.getresponse() as response:
        assert response.status == 404
    connection.close()
    plain = http.client.HTTPConnection("127.0.0.1", proxy.plain_port, timeout=SECONDS)
    plain.request("POST", "/v1/completions", b"{}", {"host": "ilmari.example.com"})
    with plain.getresponse() as response:
        assert (response.status, response.getheader("location")) == (308, "https://ilmari.example.com/v1/completions")
    plain.close()
