"""What every endpoint works with."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from starlette.requests import Request

from ilmari.server.admission import Admission
from ilmari.server.metrics import Metrics
from ilmari.server.options import ServerOptions
from ilmari.server.prompts import PromptThreads
from ilmari.server.served_model import Models


@dataclass(frozen=True)
class Service:
    """One server. seeds: draws the seeds of requests that bring none, if the server itself was given one."""

    options: ServerOptions
    models: Models
    admission: Admission
    metrics: Metrics
    threads: PromptThreads
    seeds: Random | None


def service_of(request: Request) -> Service:
    """The service of the app that got `request`."""
    service = request.app.state.service
    assert isinstance(service, Service)
    return service
