"""The HTTP application."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api import errors
from api.guard import Guard
from api.holder import Holder
from api.keyring import Keyring
from api.message_errors import MessageErrors
from api.request_ids import RequestIds
from api.routes import (
    batch_events,
    batch_jobs,
    batch_moves,
    batches,
    files,
    health,
    held,
    jobs,
    limits,
    message_batches,
    models,
    usage,
    webhooks,
)
from api.services import Services

DESCRIPTION = """The OpenAI Batch API, self-hosted, for every provider: the OpenAI SDK with this address + /v1.

Every error has OpenAI's shape (under /v1/messages Anthropic's), and every answer an `x-request-id`."""


def create_app(services: Services, *, version: str = "0") -> FastAPI:
    app = FastAPI(title="Gristmill", version=version, description=DESCRIPTION, redirect_slashes=False, redoc_url=None)
    app.state.services = services
    app.state.holder = Holder(services)
    errors.install(app)
    rooms = (
        *(held, files, batches, batch_events, batch_jobs, batch_moves, message_batches, jobs),
        *(models, health, limits, usage, webhooks),
    )
    for room in rooms:
        app.include_router(room.router)
    keyring = Keyring(services.database, services.local_token)
    app.add_middleware(Guard, keyring=keyring, stall_seconds=services.stall_seconds)
    app.add_middleware(RequestIds)
    app.add_middleware(MessageErrors)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's own 422 is never sent; ours has the shape of all errors."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        for path in document["paths"].values():
            for operation in path.values():
                if "HTTPValidationError" in str(operation["responses"].get("422")):
                    del operation["responses"]["422"]
        app.openapi_schema = document
    return app.openapi_schema
