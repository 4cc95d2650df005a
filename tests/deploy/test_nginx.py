"""The nginx example, run: TLS, events one by one, bounds, and its own errors in the form of the API's."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from certificate import make_certificate
from proxied import SECONDS, Proxy, Upstream, free_ports

from ilmari.server.errors import TYPES
from ilmari.server.limits import MAX_BODY_BYTES
from ilmari.webui.page import page_files


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
    status, answer = proxy.ask("POST", "/v1/completions", b"a" * MAX_BODY_BYTES)
    assert (status, answer["received"]) == (200, MAX_BODY_BYTES)
    status, answer = proxy.ask("POST", "/v1/completions", b"a" * (MAX_BODY_BYTES + 1))
    assert (status, answer["error"]["type"]) == (413, TYPES[413])


def test_requests_have_ids_and_keys_go_through(proxy: Proxy, tmp_path: Path) -> None:
    _, answer = proxy.ask("GET", "/v1/models", x_request_id="mine", authorization="Bearer key")
    assert answer["headers"]["x-request-id"] == "mine"
    assert answer["headers"]["authorization"] == "Bearer key"
    _, answer = proxy.ask("GET", "/v1/models")
    made = answer["headers"]["x-request-id"]
    assert re.fullmatch("[0-9a-f]{32}", made)
    assert [line.split()[1] for line in (tmp_path / "access.log").read_text().splitlines()] == ["mine", made]


def test_too_many_requests_are_refused(proxy: Proxy) -> None:
    connection = proxy.connect()
    statuses = []
    while 429 not in statuses and len(statuses) < 1000:
        connection.request("GET", "/v1/models")
        with connection.getresponse() as response:
            statuses.append(response.status)
            body = response.read()
    connection.close()
    assert statuses[-1] == 429
    assert len(statuses) > 21  # one, and 20 at once
    assert json.loads(body)["error"]["type"] == TYPES[429]


def test_the_page_comes_whole(proxy: Proxy) -> None:
    connection = proxy.connect()
    for file in page_files():
        connection.request("GET", file.path)
        with connection.getresponse() as response:
            assert (response.status, json.loads(response.read())["received"]) == (200, file.path)
    connection.close()


def test_a_server_that_is_away(start_proxy: Callable[[int], Proxy]) -> None:
    status, answer = start_proxy(free_ports()[0]).ask("GET", "/v1/models")
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
