"""What a request to a model becomes: a held job, or the one that it was sent for before."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Header, Request
from pydantic import BaseModel
from sqlmodel import Session

from api import errors, idempotency, present, schemas
from api.holder import Holder
from api.keyring import Caller
from api.price_memory import TokenPrices
from api.services import Services
from worker import windows
from worker.allowed_models import ModelNotAllowed
from worker.intake import inline
from worker.intake.inline import Inline
from worker.intake.line import LineProblem
from worker.routes import Route, RouteError, UnknownModel
from worker.store import held
from worker.store import idempotency as store
from worker.store.held import Held, NewHeld

WINDOW = "24h"
"""How long a job that names no window may wait, as said."""
SHORT_BODY = 64 << 10
"""Bytes of a body that is checked on the server's loop: a longer one would keep all others waiting."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What headers may say of a call."""

    window: str = WINDOW
    max_cost: int | None = None
    allow_fallback: bool = False
    resent: bool = False


async def options(
    x_gristmill_window: Annotated[schemas.Window, Header()] = WINDOW,
    x_gristmill_max_cost: Annotated[schemas.MaxCost | None, Header()] = None,
    x_gristmill_allow_fallback: Annotated[bool, Header()] = False,
    x_stainless_retry_count: Annotated[str, Header()] = "0",
) -> Options:
    """``resent``: an SDK says that it had no good answer to the same request before."""
    count = x_stainless_retry_count
    return Options(
        window=x_gristmill_window,
        allow_fallback=x_gristmill_allow_fallback,
        max_cost=None if x_gristmill_max_cost is None else present.picousd(x_gristmill_max_cost),
        resent=count.isdecimal() and int(count[:9]) >= 1,
    )


async def holder(request: Request) -> Holder:
    return cast(Holder, request.app.state.holder)


OptionsDep = Annotated[Options, Depends(options)]
HolderDep = Annotated[Holder, Depends(holder)]


class Refs(BaseModel):
    """What is stored for an Idempotency-Key: which jobs were created. Their answers stand with them."""

    jobs: list[tuple[int, str]]


async def read(request: Request) -> bytearray:
    """The body, in memory once."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
    return body


def digest(url: str, raw: bytes | bytearray) -> str:
    return hashlib.sha256(url.encode() + b"\n" + raw).hexdigest()


def checked(
    services: Services,
    caller: Caller,
    url: str,
    raw: bytes | bytearray,
    *,
    prices: TokenPrices | None = None,
    custom_id: str | None = None,
    may_stream: bool = False,
) -> Inline:
    """``prices`` are asked instead of the services. Raises BadRequest, Forbidden or NotFound (and what they raise)."""

    def resolve(model: str) -> Route:
        route = services.routes.resolve(model)
        caller.allowed.check(model, route)
        return route

    try:
        known = prices or services.token_prices
        return inline.take(resolve, known, url, raw, custom_id=custom_id, may_stream=may_stream)
    except LineProblem as problem:
        raise _bad_request(problem) from None
    except UnknownModel as error:
        raise errors.NotFound(str(error), param="model", code=error.code) from None
    except ModelNotAllowed as error:
        raise errors.Forbidden(str(error), param="model", code=error.code) from None
    except RouteError as error:
        raise errors.BadRequest(str(error), param="model", code=error.code) from None


def new(
    caller: Caller,
    request: Inline,
    *,
    fingerprint: str,
    options: Options,
    holder: str | None,
    window: str | None = None,
    metadata: dict[str, str] | None = None,
) -> NewHeld:
    """Raises BadRequest if it may cost more than it is allowed to."""
    _check_cost(request, options.max_cost)
    window = window or options.window
    return NewHeld(
        owner=caller.owner,
        api_key=caller.api_key,
        url=request.url,
        body=request.body,
        job=request.job,
        prices=request.prices,
        fingerprint=fingerprint,
        window=window,
        window_seconds=windows.seconds(window, standard=windows.DAY),
        metadata=metadata or {},
        max_cost=options.max_cost,
        allow_fallback=options.allow_fallback,
        holder=holder,
    )


def begin(
    services: Services, said: store.Said | None, news: Sequence[NewHeld], *, resent: bool = False
) -> tuple[list[Held], bool]:
    """The jobs, created in one transaction, and whether they are new. Raises KeyReused, and NotFound if one is gone."""
    made: list[Held] = []

    def execute(session: Session) -> Refs:
        first = news[0]
        found = held.forsaken(session, first.owner, first.fingerprint, first.holder or "") if resent else None
        made[:] = [] if found else held.create(session, news)
        return Refs(jobs=[(one.number, one.id) for one in ([found] if found else made)])

    answer = idempotency.create(services.database, said, execute)
    if made and answer.is_new:
        return made, True
    found = [Held(number=number, id=id) for number, id in Refs.model_validate_json(answer.body).jobs]
    _check_there(services, news[0].owner, found)
    return found, False


def _check_there(services: Services, owner: str, jobs: Sequence[Held]) -> None:
    """A key is remembered longer than jobs may be kept, and nothing would ever answer for one that was deleted."""
    with services.database.read() as session:
        for job in jobs:
            if held.find(session, owner, job.id) is None:
                message = f"The job {job.id} that this request began was deleted: take a new {idempotency.NAME}."
                raise errors.NotFound(message, param=idempotency.NAME, code="job_deleted")


def _check_cost(request: Inline, max_cost: int | None) -> None:
    if max_cost is None:
        return
    job, (input_price, output_price) = request.job, request.prices
    if input_price is None or output_price is None:
        message = f"The price of '{request.model}' is unknown, so no limit of its cost can be kept."
        raise errors.BadRequest(message, param="x-gristmill-max-cost", code="unknown_cost")
    estimate = job.input_tokens * input_price + job.output_tokens * output_price
    if estimate > max_cost:
        message = f"This request may cost {present.usd(estimate):.6f} USD, more than x-gristmill-max-cost allows."
        raise errors.BadRequest(message, param="x-gristmill-max-cost", code="max_cost")


def _bad_request(problem: LineProblem) -> errors.BadRequest:
    """A line's fields are the body's own here."""
    message = problem.message.replace("'body.", "'").replace("This line", "The body of your request")
    code = "invalid_json" if problem.code == "invalid_json_line" else problem.code
    return errors.BadRequest(message, param=(problem.param or "").removeprefix("body.") or None, code=code)
