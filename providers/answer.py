"""What came back over HTTP, before anyone has judged it."""

import dataclasses

import httpx


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers and the whole decoded body."""

    status_code: int
    headers: httpx.Headers
    body: bytes
