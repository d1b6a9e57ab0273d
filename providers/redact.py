"""Masks secrets in whatever a server may have echoed."""

import collections.abc

import orjson

MASK = "***"

Hidden = collections.abc.Iterable[str]


def text(value: str, hidden: Hidden) -> str:
    for secret in hidden:
        value = value.replace(secret, MASK)
    return value


def body(value: bytes, hidden: Hidden) -> bytes:
    """An error body without the secrets, even where JSON escapes hide them."""
    for secret in hidden:
        value = _without(value, secret)
    return value


def _without(value: bytes, secret: str) -> bytes:
    plain = value.replace(secret.encode(), MASK.encode())
    if b"\\" not in plain:
        return plain
    try:
        unescaped = orjson.dumps(orjson.loads(plain)).decode()
    except ValueError:
        return b""  # who cannot read it cannot be sure of it
    return unescaped.replace(secret, MASK).encode() if secret in unescaped else plain
