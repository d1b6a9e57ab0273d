"""Selects the headers that tell about quotas."""

import httpx

_PREFIXES = (b"x-ratelimit-", b"x-rate-limit-", b"x-tokenlimit-", b"anthropic-ratelimit-", b"ratelimit", b"retry-after")
_MAX_VALUE = 200


def select(headers: httpx.Headers) -> dict[str, str]:
    """Names in lower case; values of more than 200 bytes are left out."""
    lower = ((name.lower(), value) for name, value in headers.raw)
    return {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in lower
        if name.startswith(_PREFIXES) and len(value) <= _MAX_VALUE
    }
