"""Errors as OpenAI's clients expect them: {"error": {"message", "type", "param", "code"}}.

ApiError
 ├ BadRequest
 ├ Unauthorized
 ├ Forbidden
 ├ NotFound
 ├ MethodNotAllowed
 ├ RequestTimeout
 ├ Conflict
 ├ PayloadTooLarge
 ├ UnsupportedMediaType
 ├ KeyReused
 ├ BudgetSpent
 ├ ServerFault
 ├ StorageFull
 └ Unavailable
"""

import json
import logging
from collections.abc import Mapping
from typing import ClassVar

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from api import faults
from worker.blobs import BlobError, StoreFull
from worker.database import DatabaseAway
from worker.store import batches

log = logging.getLogger("gristmill.api")

SHOULD_NOT_RETRY = {"x-should-retry": "false"}
"""SDKs send 409 and 5xx again unless they are told not to."""


class ApiError(Exception):
    status = 500
    type = "invalid_request_error"
    headers: ClassVar[Mapping[str, str]] = {}

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code


class BadRequest(ApiError):
    status = 400


class Unauthorized(ApiError):
    status = 401
    headers: ClassVar[Mapping[str, str]] = {"www-authenticate": "Bearer"}


class Forbidden(ApiError):
    status = 403


class NotFound(ApiError):
    status = 404


class MethodNotAllowed(ApiError):
    status = 405


class RequestTimeout(ApiError):
    status = 408
    headers: ClassVar[Mapping[str, str]] = {"connection": "close"}


class Conflict(ApiError):
    status = 409
    headers = SHOULD_NOT_RETRY


class PayloadTooLarge(ApiError):
    status = 413


class UnsupportedMediaType(ApiError):
    status = 415


class KeyReused(ApiError):
    status = 422
    type = "idempotency_error"
    headers = SHOULD_NOT_RETRY


class BudgetSpent(ApiError):
    status = 429
    type = "insufficient_quota"
    headers = SHOULD_NOT_RETRY


class ServerFault(ApiError):
    status = 500
    type = "server_error"
    headers = SHOULD_NOT_RETRY


class StorageFull(ServerFault):
    status = 507


class Unavailable(ApiError):
    status = 503
    type = "server_error"
    headers: ClassVar[Mapping[str, str]] = {"retry-after": "1"}


def response(error: ApiError) -> Response:
    body = {"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}}
    return Response(json.dumps(body), error.status, dict(error.headers), "application/json")


def unexpected() -> Response:
    return response(ServerFault("The server had an error while processing your request.", code="internal_error"))


def install(app: FastAPI) -> None:
    """Every failure of a route leaves the server in the same shape."""
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(DatabaseAway, _database_away)
    app.add_exception_handler(BlobError, _blob_error)
    app.add_exception_handler(batches.BudgetSpent, _budget_spent)
    app.add_exception_handler(batches.TooDear, _budget_spent)
    app.add_exception_handler(batches.UnknownCost, _unknown_cost)
    app.add_exception_handler(ClientDisconnect, _client_gone)


def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return response(error)


def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    fault = faults.first(error.errors())
    return response(BadRequest(fault.message, param=fault.param, code=fault.code))


def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    where = f"{request.method} {request.url.path[:200]}"
    match error.status_code:
        case 404:
            return response(NotFound(f"Invalid URL ({where})", code="unknown_url"))
        case 405:
            answer = response(MethodNotAllowed(f"Not allowed method ({where})", code="method_not_allowed"))
            answer.headers.update(error.headers or {})
            return answer
        case 400:
            return response(BadRequest("We could not parse the body of your request.", code="invalid_body"))
    return unexpected()


def database_away() -> ApiError:
    return Unavailable("The database does not answer. Please try again.", code="database_unavailable")


def _database_away(request: Request, error: Exception) -> Response:
    log.warning("503 for %s %s: %s", request.method, request.url.path, error)
    return response(database_away())


def _blob_error(request: Request, error: Exception) -> Response:
    log.error("%s %s: %s", request.method, request.url.path, error)
    if isinstance(error, StoreFull):
        return response(StorageFull("The file store is full; nothing was stored.", code="storage_full"))
    return response(ServerFault("The file store does not work.", code="storage_failed"))


def _budget_spent(request: Request, error: Exception) -> Response:
    return _api_error(request, BudgetSpent(str(error), code="insufficient_quota"))


def _unknown_cost(request: Request, error: Exception) -> Response:
    return _api_error(request, Forbidden(str(error), code="unknown_cost"))


def _client_gone(request: Request, error: Exception) -> Response:
    return Response(status_code=499)
