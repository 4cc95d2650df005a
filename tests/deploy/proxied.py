"""nginx with the example's configuration, and a server behind it that does as it is told."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from deployment import DEPLOY

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
        self.port, self.plain_port = free_ports()
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


def free_ports() -> list[int]:
    """Two."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return [one.getsockname()[1], other.getsockname()[1]]
