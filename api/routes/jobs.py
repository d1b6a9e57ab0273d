"""/v1/jobs: one or a few requests inline, answered at once if their client wants to wait, else to be polled."""

import asyncio
import hashlib
import re
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from api import errors, faults, held_calls, idempotency, job_answer, schemas
from api.deps import CallerDep, ServicesDep
from api.held_calls import HolderDep, OptionsDep
from api.holder import Holder, Stopping
from api.job_schemas import Job, JobCreate, JobList, JobsCreate
from api.keyring import Caller
from api.services import Services
from worker import states
from worker.intake import line
from worker.intake.line import LineProblem
from worker.store import held
from worker.store.batches import AtRest
from worker.store.held import Held, NewHeld

Model = TypeVar("Model", bound=BaseModel)

LONGEST_WAIT = 600
_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*([0-9]{1,6})\s*(?:$|[,;])", re.IGNORECASE)

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@router.post(
    "",
    status_code=202,
    responses={200: {"model": Job}, 202: {"model": Job}, **schemas.error_responses(400, 404, 422)},
    openapi_extra={"requestBody": {"content": {"application/json": {"schema": JobCreate.model_json_schema()}}}},
)
async def create(
    request: Request,
    services: ServicesDep,
    caller: CallerDep,
    holder: HolderDep,
    options: OptionsDep,
    said: idempotency.SaidDep,
    prefer: Annotated[str, Header()] = "",
) -> Response:
    """202 with the job, to be polled at ``Location``; ``{"requests": [...]}`` makes a list of up to 100.

    ``Prefer: wait=N`` waits up to N seconds (600 at most), and answers 200 if everything is done by then.
    """
    raw = bytes(await held_calls.read(request))
    found, is_set, is_new = await run_in_threadpool(_begin, services, caller, options, said, raw)
    if is_new:
        holder.ring(found)
    wait = _WAIT.search(prefer)
    headers = {} if is_new else dict(idempotency.REPLAYED)
    if wait is not None:
        await _wait(holder, found, min(LONGEST_WAIT, int(wait[1])))
        headers["preference-applied"] = f"wait={min(LONGEST_WAIT, int(wait[1]))}"
    facts = await run_in_threadpool(_facts, services, [one.number for one in found], True)
    done = len(facts) == len(found) and all(one.batch.status in states.AT_REST for one in facts)
    shown = [job_answer.shown(one) for one in facts]
    if is_set:
        return job_answer.response(_list(shown, False), 200 if done else 202, headers)
    if not shown:
        raise _missing(found[0].id)
    return job_answer.response(shown[0], 200 if done else 202, {**headers, "location": f"/v1/jobs/{found[0].id}"})


@router.get("", response_model=JobList, responses=schemas.error_responses(400))
def list_jobs(
    services: ServicesDep,
    caller: CallerDep,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Response:
    """Newest first, without their answers; also those that a client was held for."""
    with services.database.read() as session:
        cursor = held.find(session, caller.owner, after) if after is not None else None
        if after is not None and cursor is None:
            raise errors.BadRequest("'after' is not the id of a job.", param="after", code="invalid_cursor")
        numbers = held.page(session, caller.owner, limit=limit + 1, after=cursor.number if cursor else None)
        facts = held.facts(session, numbers[:limit], with_answers=False)
    return job_answer.response(_list([job_answer.shown(one) for one in facts], len(numbers) > limit))


@router.get("/{job_id}", response_model=Job, responses=schemas.error_responses(404))
def retrieve(job_id: str, services: ServicesDep, caller: CallerDep) -> Response:
    with services.database.read() as session:
        job = held.find(session, caller.owner, job_id)
        facts = held.facts(session, [job.number], with_answers=True) if job else []
    if not facts:
        raise _missing(job_id)
    return job_answer.response(job_answer.shown(facts[0]))


@router.post("/{job_id}/cancel", response_model=Job, responses=schemas.error_responses(404, 409))
def cancel(job_id: str, services: ServicesDep, caller: CallerDep) -> Response:
    """No call begins any more; one in flight may end, and what it brings is kept."""
    try:
        row = services.database.write(lambda session: held.cancel(session, caller.owner, job_id))
    except AtRest as rest:
        raise errors.Conflict(f"Cannot cancel a job with status '{rest.status}'.") from None
    if row is None:
        raise _missing(job_id)
    return job_answer.response(job_answer.shown(_facts(services, [row.number or 0], True)[0]))


def _begin(
    services: Services, caller: Caller, options: held_calls.Options, said: idempotency.Fingerprint, raw: bytes
) -> tuple[list[Held], bool, bool]:
    """The jobs, whether they were asked for as a list, and whether they are new."""
    digest = hashlib.sha256(b"/v1/jobs\n" + raw).hexdigest()
    values, written = _members(raw, "body")
    if "requests" in values:
        _validated(JobsCreate, values, ())
        parts = line.elements(written["requests"])
        news = [_new(services, caller, options, digest, part, (f"requests[{i}]",)) for i, part in enumerate(parts)]
    else:
        news = [_new(services, caller, options, digest, raw, ())]
    found, is_new = held_calls.begin(services, said(f"/v1/jobs {digest}"), news)
    return found, "requests" in values, is_new


def _new(
    services: Services, caller: Caller, options: held_calls.Options, digest: str, raw: bytes, where: tuple[str, ...]
) -> NewHeld:
    values, written = _members(raw, where[0] if where else "body")
    asked = _validated(JobCreate, values, where)
    try:
        checked = held_calls.checked(services, caller, asked.url, written["body"], custom_id=asked.custom_id)
    except (errors.BadRequest, errors.Forbidden, errors.NotFound) as error:
        error.param = ".".join((*where, "body", *([error.param] if error.param else [])))
        raise
    return held_calls.new(
        caller,
        checked,
        fingerprint=digest,
        options=options,
        window=asked.completion_window,
        metadata=asked.metadata,
        holder=None,
    )


def _members(raw: bytes, what: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    try:
        return line.members(raw)
    except LineProblem as problem:
        message = f"The {what} of your request is not a JSON object: {problem.message.rpartition(': ')[2]}"
        raise errors.BadRequest(message, code="invalid_json") from None


def _validated(kind: type[Model], values: dict[str, Any], where: tuple[str, ...]) -> Model:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        findings = [{**finding, "loc": ("body", *where, *finding["loc"])} for finding in error.errors()]
        raise RequestValidationError(findings) from None


async def _wait(holder: Holder, jobs: Sequence[Held], seconds: int) -> None:
    answers = [asyncio.ensure_future(holder.answer(job)) for job in jobs]
    try:
        async with asyncio.timeout(seconds):
            await asyncio.gather(*answers)
    except (TimeoutError, Stopping):
        return
    finally:
        for answer in answers:
            answer.cancel()


def _facts(services: Services, numbers: Sequence[int], with_answers: bool) -> list[held.Facts]:
    with services.database.read() as session:
        return held.facts(session, numbers, with_answers=with_answers)


def _list(shown: list[dict[str, Any]], has_more: bool) -> dict[str, Any]:
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": has_more,
    }


def _missing(id: str) -> errors.NotFound:
    return errors.NotFound(f"No job found with id '{faults.shown(id)}'.")
