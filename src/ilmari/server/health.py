"""GET /health, /ready, /version and /metrics: what those who run the server ask."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response
from typing_extensions import TypedDict

from ilmari.server.documented import EVERYWHERE, errors
from ilmari.server.errors import ApiError
from ilmari.server.service import service_of

router = APIRouter()

_OPEN_ERRORS = errors(408, 413, 503)


class Version(TypedDict):
    """ilmari's."""

    version: str


class Health(TypedDict):
    """All is well."""

    status: str


@router.get("/health", responses=_OPEN_ERRORS)
async def health(request: Request) -> Health:
    """Whether every engine runs; while one is being started again, 503. Needs no key."""
    return _health(request)


@router.get("/ready", responses=_OPEN_ERRORS)
async def ready(request: Request) -> Health:
    """Whether new requests are taken: as /health, and 503 once the server is to end. Needs no key."""
    if service_of(request).admission.draining:
        raise ApiError(503, "The server is shutting down.", code="draining")
    return _health(request)


@router.get("/version", responses=EVERYWHERE)
async def show_version() -> Version:
    """ilmari's version."""
    return {"version": version("ilmari")}


@router.get(
    "/metrics",
    response_class=Response,
    responses=EVERYWHERE | {200: {"description": "Prometheus's text format.", "content": {"text/plain": {}}}},
)
async def metrics(request: Request) -> Response:
    """Counts and times, for Prometheus."""
    return Response(service_of(request).metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _health(request: Request) -> Health:
    for model in service_of(request).models.all:
        if model.engine.state != "ready":
            raise ApiError(
                503, f"The engine of {model.name} is {model.engine.state}.", code=f"engine_{model.engine.state}"
            )
    return {"status": "ok"}
