"""Selects the headers that tell about quotas."""

import collections.abc

_PREFIXES = ("x-ratelimit-", "x-rate-limit-", "x-tokenlimit-", "anthropic-ratelimit-", "ratelimit", "retry-after")
_MAX_VALUE = 200


def select(headers: collections.abc.Mapping[str, str]) -> dict[str, str]:
    """From names in lower case; values of more than 200 characters are left out."""
    found = {name: value for name, value in headers.items() if name.startswith(_PREFIXES) and len(value) <= _MAX_VALUE}
    if found and (date := headers.get("date")) is not None:
        found["date"] = date
    return found
