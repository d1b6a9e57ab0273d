"""One sending: signed, dialled safely, never redirected, and what came back."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from providers import retry_after
from worker.webhooks import dialling, signature, target
from worker.webhooks.target import Lookup, TargetError

TIMEOUT_SECONDS = 20.0
LONGEST_ANSWER = 20_000
"""Bytes of an answer that are read and kept."""
USER_AGENT = "Gristmill-Webhooks/1.0"


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """What is sent, to whom, and with which secrets it is signed."""

    id: str
    url: str
    secrets: Sequence[str]
    timestamp: int
    body: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """``error`` says why there is no status. ``wait`` is what the receiver asked for, in seconds."""

    status: int | None
    error: str | None
    body: bytes
    wait: float | None
    seconds: float

    @property
    def is_success(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


def event_body(id: str, type: str, created_at: float, batch: str, data: Mapping[str, Any] | None = None) -> bytes:
    """An event as OpenAI's SDKs parse it."""
    told = {"id": batch, **(data or {})}
    return orjson.dumps({"id": id, "object": "event", "created_at": int(created_at), "type": type, "data": told})


async def send(
    message: Message, *, private: bool, timeout: float = TIMEOUT_SECONDS, lookup: Lookup | None = None
) -> Answer:
    """Never raises for what a receiver does."""
    began = time.monotonic()
    status, headers, body, error = None, {}, bytearray(), None
    try:
        target.parse(message.url, private=private)
        async with (
            aiohttp.ClientSession(
                connector=dialling.connector(private=private, lookup=lookup),
                timeout=aiohttp.ClientTimeout(total=timeout),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            ) as session,
            session.post(message.url, data=message.body, headers=_headers(message), allow_redirects=False) as answer,
        ):
            status, headers = answer.status, {name.lower(): value for name, value in answer.headers.items()}
            async for chunk in answer.content.iter_chunked(4_096):
                body += chunk
                if len(body) >= LONGEST_ANSWER:
                    answer.close()
                    break
    except TargetError as refused:
        error = str(refused)
    except signature.SecretError:
        error = "its signing secret cannot be read: put the master key back, or rotate the secret"
    except TimeoutError:
        error = None if status else f"no answer within {timeout:g} s"
    except (aiohttp.ClientError, OSError, ValueError) as failure:
        error = None if status else f"{type(failure).__name__}: the receiver could not be reached"
    return Answer(
        status=status,
        error=error,
        body=bytes(body[:LONGEST_ANSWER]),
        wait=retry_after.seconds(headers),
        seconds=time.monotonic() - began,
    )


def _headers(message: Message) -> Mapping[str, str]:
    signed = signature.headers(message.secrets, message.id, message.timestamp, message.body)
    return {"content-type": "application/json", "user-agent": USER_AGENT, **signed}
