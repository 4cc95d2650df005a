"""The ASGI application: layers around routes."""

from __future__ import annotations

from importlib.metadata import version
from random import Random
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from ilmari.server import chat, completions, health, models, tokens
from ilmari.server.access_log import HEADER, AccessLog
from ilmari.server.admission import Admission
from ilmari.server.auth import OPEN_PATHS, Auth
from ilmari.server.connection import Connection
from ilmari.server.errors import handle_errors
from ilmari.server.metrics import Metrics
from ilmari.server.options import ServerOptions
from ilmari.server.prompts import PromptThreads
from ilmari.server.served_model import Models
from ilmari.server.service import Service
from ilmari.webui.page import page_routes

ROUTERS = (chat.router, completions.router, models.router, tokens.router, health.router)


def create_app(options: ServerOptions, served: Models, most_replies: int) -> FastAPI:
    """An application that serves `served`; most_replies: how many may be running and waiting at once."""
    app = FastAPI(
        title="ilmari",
        version=version("ilmari"),
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
    )
    app.root_path = options.root_path
    for router in ROUTERS:
        app.include_router(router)
    app.router.routes.extend(page_routes())
    handle_errors(app)
    service = app.state.service = Service(
        options=options,
        models=served,
        admission=Admission(most_replies),
        metrics=Metrics(served),
        threads=PromptThreads(),
        seeds=None if options.seed is None else Random(options.seed),
    )
    # From the innermost to the outermost.
    app.add_middleware(Connection, timeout=options.request_timeout)
    app.add_middleware(Auth, keys=options.api_keys, root_path=options.root_path)
    if options.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=options.allowed_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type", HEADER],
            expose_headers=[HEADER, "retry-after"],
        )
    app.add_middleware(AccessLog, id_headers=options.enable_request_id_headers, metrics=service.metrics)
    _mend_openapi(app, bool(options.api_keys))
    return app


def _mend_openapi(app: FastAPI, keys: bool) -> None:
    """Mistakes in bodies are answered with 400 here, never 422; and keys are said to be needed where they are."""
    written = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = written()
            for path, operations in schema["paths"].items():
                for operation in operations.values():
                    operation["responses"].pop("422", None)
                    if keys and path not in OPEN_PATHS:
                        operation["security"] = [{"key": []}]
            for name in ("HTTPValidationError", "ValidationError"):
                schema["components"]["schemas"].pop(name, None)
            if keys:
                schema["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        return app.openapi_schema or schema

    app.openapi = openapi  # type: ignore[method-assign]
