"""The header Idempotency-Key: a create that is sent again is answered as it was answered first."""

import re
from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Header
from pydantic import BaseModel
from sqlmodel import Session
from starlette.responses import Response

from api import errors
from api.deps import CallerDep
from worker.database import Database
from worker.store import idempotency
from worker.store.idempotency import Answer, Said

NAME = "Idempotency-Key"
REPLAYED = {"idempotent-replayed": "true"}

_KEY = re.compile(r"[\x21-\x7e]{1,255}")

Fingerprint = Callable[[str], Said | None]
"""Makes of a request's digest what is said under its key; None if it names no key."""


async def said(caller: CallerDep, idempotency_key: Annotated[str | None, Header()] = None) -> Fingerprint:
    """Raises BadRequest."""
    if idempotency_key is None:
        return lambda fingerprint: None
    if _KEY.fullmatch(idempotency_key) is None:
        message = f"'{NAME}' must have 1 to 255 visible ASCII characters, such as a UUID."
        raise errors.BadRequest(message, param=NAME, code="invalid_value")
    key = idempotency_key
    return lambda fingerprint: Said(owner=caller.owner, key=key, fingerprint=fingerprint)


SaidDep = Annotated[Fingerprint, Depends(said)]


def create(database: Database, said: Said | None, execute: Callable[[Session], BaseModel]) -> Answer:
    """Run ``execute`` in one transaction with what is stored for the key. Raises KeyReused or what it raises."""

    def change(session: Session) -> Answer:
        def now() -> Answer:
            return Answer(body=execute(session).model_dump_json().encode())

        return now() if said is None else idempotency.once(session, said, now)

    try:
        return database.write(change)
    except idempotency.KeyReused:
        message = f"This {NAME} was used with another request in the last 24 hours: take a new one."
        raise errors.KeyReused(message, param=NAME, code="idempotency_key_reused") from None


def response(answer: Answer) -> Response:
    return Response(answer.body, answer.status, {} if answer.is_new else REPLAYED, "application/json")
