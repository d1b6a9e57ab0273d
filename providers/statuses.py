"""What an HTTP status means where the body says nothing more."""

from providers import errors

_EXACT: dict[int, type[errors.ProviderError]] = {
    401: errors.AuthenticationError,
    402: errors.BillingError,
    403: errors.PermissionDeniedError,
    404: errors.NotFoundError,
    408: errors.DeadlineError,
    409: errors.OverloadedError,  # a conflict that passes; the official SDKs retry it
    410: errors.NotFoundError,
    413: errors.PayloadTooLargeError,
    425: errors.OverloadedError,
    429: errors.RateLimitError,
    498: errors.OverloadedError,  # Groq: no flex capacity
    499: errors.DeadlineError,
    503: errors.OverloadedError,
    504: errors.DeadlineError,
    524: errors.DeadlineError,
    529: errors.OverloadedError,
}

# A gateway lost sight of the model: the call may have been answered, and billed, behind it.
MAYBE_BILLED = frozenset({408, 499, 502, 504, 520, 524})


def error_class(status: int) -> type[errors.ProviderError]:
    if status in _EXACT:
        return _EXACT[status]
    return errors.ServerError if status >= 500 else errors.InvalidRequestError
