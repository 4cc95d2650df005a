"""GET /v1/models: what there is to ask."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Request
from typing_extensions import TypedDict

from ilmari.server.documented import EVERYWHERE, errors
from ilmari.server.limits import MAX_NAME_CHARS
from ilmari.server.served_model import Models, ServedModel
from ilmari.server.service import service_of

router = APIRouter()


class ModelCard(TypedDict):
    """A model by one of its names; `root` is its first. max_model_len: tokens of prompt and reply together."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: Literal["ilmari"]
    root: str
    max_model_len: int


class ModelList(TypedDict):
    """All models."""

    object: Literal["list"]
    data: list[ModelCard]


@router.get("/v1/models", responses=EVERYWHERE)
async def list_models(request: Request) -> ModelList:
    """Every model, by every name it has."""
    by_name = service_of(request).models.by_name
    return {"object": "list", "data": [_card(name, model) for name, model in by_name.items()]}


@router.get("/v1/models/{name:path}", responses=EVERYWHERE | errors(404))
async def one_model(name: Annotated[str, Path(max_length=MAX_NAME_CHARS)], request: Request) -> ModelCard:
    """The model of this name."""
    models: Models = service_of(request).models
    return _card(name, models.named(name))


def _card(name: str, model: ServedModel) -> ModelCard:
    return {
        "id": name,
        "object": "model",
        "created": model.created,
        "owned_by": "ilmari",
        "root": model.name,
        "max_model_len": model.max_model_len,
    }
