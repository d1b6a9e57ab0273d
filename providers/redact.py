"""Takes a key out of whatever a server may have echoed."""

import orjson

from providers import secret

MASK = "***"


def text(value: str, key: secret.Secret | None) -> str:
    return value.replace(key.reveal(), MASK) if key else value


def body(value: bytes, key: secret.Secret | None) -> bytes:
    """An error body without the key, even where JSON escapes hide it."""
    if key is None:
        return value
    plain = value.replace(key.reveal().encode(), MASK.encode())
    if b"\\" not in plain:
        return plain
    try:
        unescaped = orjson.dumps(orjson.loads(plain)).decode()
    except ValueError:
        return plain if b"\\u" not in plain and b"\\/" not in plain else b""
    return text(unescaped, key).encode() if key.reveal() in unescaped else plain
