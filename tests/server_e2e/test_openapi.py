"""Requests made up from /openapi.json: none brings the server to a 5xx, and every response is as that file says."""

from __future__ import annotations

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from live_server import SECONDS, LiveServer
from schemathesis import GenerationMode
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.schemas import APIOperation, BaseSchema

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
POSTED = ("/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize")
GOTTEN = ("/v1/models", "/v1/models/{name}", "/health", "/ready", "/metrics", "/version")
ROUTES = [*(("POST", path) for path in POSTED), *(("GET", path) for path in GOTTEN)]


@pytest.fixture(scope="module")
def api(server: LiveServer) -> BaseSchema:
    """What the server says of itself."""
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json", timeout=SECONDS)


def test_every_route_is_described(server: LiveServer) -> None:
    paths = server.get("/openapi.json").json["paths"]
    assert {(method.upper(), path) for path, operations in paths.items() for method in operations} == set(ROUTES)


def hold(server: LiveServer, operation: APIOperation, mode: GenerationMode, examples: int) -> None:
    """Send so many requests, the same in every run, and check the responses."""

    @hypothesis.seed(1)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def holds(case: schemathesis.Case) -> None:
        if isinstance(case.body, dict) and case.body.get("max_tokens", 5) in (None, 5):
            case.body["max_tokens"] = 5  # a reply as long as the model's context tells nothing more
        response = case.call(base_url=server.url, timeout=SECONDS)
        case.validate_response(response, checks=CHECKS)

    holds()
    assert server.children() == server.engines


@pytest.mark.parametrize("path", POSTED)
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_bodies(server: LiveServer, api: BaseSchema, path: str, mode: GenerationMode) -> None:
    """Such as are described, and such as are not."""
    hold(server, api[path]["POST"], mode, examples=40)


@pytest.mark.parametrize("path", GOTTEN)
def test_questions(server: LiveServer, api: BaseSchema, path: str) -> None:
    hold(server, api[path]["GET"], GenerationMode.POSITIVE, examples=5)
