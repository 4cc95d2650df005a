"""Requests made up from /openapi.json: none brings the server to a 5xx, and every response is as that file says."""

from __future__ import annotations

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from live_server import SECONDS, LiveServer
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
EXAMPLES = 25
"""Of each operation."""


@pytest.fixture(scope="module")
def api(server: LiveServer) -> schemathesis.BaseSchema:
    """What the server says of itself."""
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json", timeout=SECONDS)


schema = schemathesis.pytest.from_fixture("api")


@schema.parametrize()
@hypothesis.seed(1)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_made_up_requests(case: schemathesis.Case, server: LiveServer) -> None:
    if isinstance(case.body, dict) and "max_tokens" not in case.body:
        case.body["max_tokens"] = 4  # a reply as long as the model's context tells nothing more
    response = case.call(base_url=server.url, timeout=SECONDS)
    case.validate_response(response, checks=CHECKS)
    assert server.children() == server.engines


def test_every_route_is_described(server: LiveServer) -> None:
    described = {
        (method.upper(), path) for path, operations in server.get("/openapi.json").json["paths"].items() for method in operations
    }
    assert described == {
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/completions"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/{name}"),
        ("POST", "/tokenize"),
        ("POST", "/detokenize"),
        ("GET", "/health"),
        ("GET", "/ready"),
        ("GET", "/metrics"),
        ("GET", "/version"),
    }
