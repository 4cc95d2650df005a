"""How browsers and networks reach a server: TLS, sites whose pages may ask, and a proxy's path before its own."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificate import make_certificate
from live_server import SECONDS, LiveServer, StartServer

SITE = "https://site.example"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of this machine's loopback address, and its key."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def proxied(start_server: StartServer) -> Iterator[LiveServer]:
    """A server behind a proxy, for the pages of one site."""
    server = start_server("--allowed-origins", SITE, "--root-path", "/llm")
    yield server
    server.stop()


def test_tls(start_server: StartServer, certificate: tuple[Path, Path]) -> None:
    server = start_server("--ssl-certfile", certificate[0], "--ssl-keyfile", certificate[1])
    assert server.url.startswith("https://")
    context = ssl.create_default_context(cafile=certificate[0])
    connection = http.client.HTTPSConnection(*server.address, timeout=SECONDS, context=context)
    connection.request("GET", "/v1/models")
    with connection.getresponse() as response:
        assert (response.status, b"tiny" in response.read()) == (200, True)
    connection.close()
    with server.connect() as plain:
        plain.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 200 " not in plain.recv(1 << 16)
    server.stop()


def test_pages_of_the_site_may_ask(proxied: LiveServer) -> None:
    asks = {"origin": SITE, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    answer = proxied.ask("OPTIONS", "/v1/chat/completions", headers=asks)
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == SITE
    assert proxied.ask("GET", "/v1/models", headers={"origin": SITE}).headers["access-control-allow-origin"] == SITE


def test_pages_of_others_may_not(proxied: LiveServer) -> None:
    asks = {"origin": "https://other.example", "access-control-request-method": "POST"}
    assert proxied.ask("OPTIONS", "/v1/chat/completions", headers=asks).status == 400
    answer = proxied.ask("GET", "/v1/models", headers={"origin": "https://other.example"})
    assert "access-control-allow-origin" not in answer.headers


def test_the_proxys_path(proxied: LiveServer) -> None:
    """Whether the proxy strips its path or not."""
    assert proxied.get("/v1/models").status == proxied.get("/llm/v1/models").status == 200
    assert proxied.get("/openapi.json").json["servers"] == [{"url": "/llm"}]
