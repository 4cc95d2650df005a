"""The page's files: all of them, under a policy that lets nothing in, small, and referring to each other only."""

from __future__ import annotations

import gzip
import re

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from ilmari.webui.page import FOLDER, page_files, page_paths, page_routes

HTML_OR_CODE = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|url\("


@pytest.fixture
def client() -> TestClient:
    return TestClient(Starlette(routes=page_routes()))


@pytest.mark.parametrize("path", page_paths())
def test_headers(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == policy["img-src"] == "'self'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    again = client.get(path, headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["content-security-policy"] == answer.headers["content-security-policy"]


@pytest.mark.parametrize("path", page_paths())
def test_content_is_the_same_compressed(client: TestClient, path: str) -> None:
    plain = client.get(path, headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    with client.stream("GET", path, headers={"accept-encoding": "gzip"}) as answer:
        assert gzip.decompress(b"".join(answer.iter_raw())) == plain.content


def test_other_paths(client: TestClient) -> None:
    for path in ("", "index.html", "../page.py", "%2e%2e/page.py", "/app.js", "none.js"):
        assert client.get(FOLDER + path).status_code == 404
    assert client.post("/").status_code == 405


def test_nothing_is_inline_and_nothing_from_elsewhere() -> None:
    page = page_files()[0].content.decode()
    assert page_files()[0].path == "/"
    assert re.findall(r"<script(?![^>]*\bsrc=)", page) == []
    assert re.findall(r"<style|\sstyle=|\son\w+=|https?:|//", page.replace("<!doctype", "")) == []
    for file in page_files():
        if file.path.endswith((".js", ".css")):
            text = file.content.decode()
            assert re.findall(HTML_OR_CODE, text) == []


def test_every_module_is_loaded_at_once() -> None:
    """Each is named in the page, so that none waits for another that imports it."""
    page = page_files()[0].content.decode()
    named = re.findall(r'(?:href|src)="(webui/[^"]+)"', page)
    assert {f"/{name}" for name in named} == {path for path in page_paths() if path.startswith(FOLDER)}
    for file in page_files():
        if file.path.endswith(".js"):
            for name in re.findall(r'from "\./([^"]+)"', file.content.decode()):
                assert FOLDER + name in page_paths()
