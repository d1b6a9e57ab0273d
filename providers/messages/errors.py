"""Errors in Anthropic's words."""

from providers.messages.fields import Json

_BY_STATUS = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_BY_CODE = {"insufficient_quota": "billing_error", "model_not_found": "not_found_error"}


def type_of(status: int, code: str | None = None) -> str:
    """Some codes say more than their status."""
    known = _BY_CODE.get(code or "") or _BY_STATUS.get(status)
    return known or ("api_error" if status >= 500 else "invalid_request_error")


def body(status: int, code: str | None, message: str, request_id: str | None) -> Json:
    error = {"type": type_of(status, code), "message": message}
    return {"type": "error", "error": error, "request_id": request_id}
