"""Signatures by the rules of Standard Webhooks (standardwebhooks.com), which the OpenAI SDK verifies too."""

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Sequence

PREFIX = "whsec_"
KEY_BYTES = 32
SHORTEST_KEY, LONGEST_KEY = 24, 64


class SecretError(Exception):
    """The text is no signing secret. The message does not repeat it."""


def new_secret() -> str:
    """``whsec_`` and 32 random bytes in padded standard base64."""
    return PREFIX + base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def hint(secret: str) -> str:
    """What may be shown of a secret after its creation."""
    return f"{PREFIX}...{secret[-4:]}"


def headers(secrets: Sequence[str], id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers of one sending; during a rotation ``secrets`` are several, the newest first."""
    return {
        "webhook-id": id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(sign(secret, id, timestamp, body) for secret in secrets),
    }


def sign(secret: str, id: str, timestamp: int, body: bytes) -> str:
    """``v1,`` and the base64 of an HMAC-SHA256 over id, timestamp (unix seconds) and body. Raises SecretError."""
    signed = b"%b.%d.%b" % (id.encode(), timestamp, body)
    return "v1," + base64.b64encode(hmac.digest(_key(secret), signed, hashlib.sha256)).decode()


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not secret.startswith(PREFIX) or not SHORTEST_KEY <= len(key) <= LONGEST_KEY:
        raise SecretError(
            f"a signing secret is {PREFIX} and {SHORTEST_KEY} to {LONGEST_KEY} bytes in padded standard base64"
        )
    return key
