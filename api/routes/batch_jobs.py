"""/v1/batches/{id}/jobs and /rows: the lines of a batch one by one."""

import json
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query
from starlette.responses import Response, StreamingResponse

from api import batch_answer, errors, present, schemas
from api.deps import CallerDep, ServicesDep
from worker import flat_rows, states, tables
from worker.states import JobState
from worker.store import batches, expiry, lines
from worker.store.lines import Line

NANO = 10**9

router = APIRouter(prefix="/v1/batches", tags=["batches"])


@router.get("/{batch_id}/jobs", responses=schemas.error_responses(400, 404))
def list_jobs(
    batch_id: str,
    services: ServicesDep,
    caller: CallerDep,
    status: Literal["pending", "succeeded", "failed", "expired", "cancelled"] | None = None,
    after: Annotated[int, Query(ge=0, le=schemas.INTEGER)] = 0,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> schemas.JobList:
    """In input order, each line with its newest attempts. ``after`` is the line after which the page begins."""
    state = None if status is None else JobState[status.upper()]
    with services.database.read() as session:
        batch = batch_answer.found(batches.get(session, caller.owner, batch_id), batch_id)
        found = lines.page(session, batch.number or 0, state=state, after=after, limit=limit + 1)
    shown = found[:limit]
    return schemas.JobList(
        data=[_job(line) for line in shown],
        last_line=tables.job_line(shown[-1].job.id) if shown else None,
        has_more=len(found) > limit,
    )


@router.get("/{batch_id}/rows", response_class=Response, responses=schemas.error_responses(404))
def stream_rows(batch_id: str, services: ServicesDep, caller: CallerDep) -> Response:
    """The whole batch as a table: NDJSON, one flat object a line, in input order. X-Incomplete: more will come."""
    with services.database.read() as session:
        batch = batch_answer.found(batches.get(session, caller.owner, batch_id), batch_id)
        try:
            expiry.check(session, batch.number or 0)
        except expiry.Gone:
            raise errors.NotFound(f"The answers of {batch_id} have expired.") from None
    rows = flat_rows.stream(services.database, services.blobs, batch)
    headers = {"x-incomplete": "false" if batch.status in states.AT_REST else "true"}
    return StreamingResponse(map(_ndjson, rows), media_type="application/x-ndjson", headers=headers)


def _ndjson(row: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(row) + b"\n"
    except TypeError:  # metadata with lone surrogates or numbers beyond 64 bits
        return json.dumps(row).encode() + b"\n"


def _job(line: Line) -> schemas.Job:
    job = line.job
    return schemas.Job(
        line=tables.job_line(job.id),
        custom_id=job.custom_id,
        url=f"/v1/{job.endpoint}",
        model=job.route,
        status=JobState(job.state).name.lower(),
        generation=job.generation,
        error_code=job.error_code,
        attempts_total=line.tried,
        attempts=[_attempt(attempt) for attempt in line.attempts],
    )


def _attempt(row: Any) -> schemas.Attempt:
    return schemas.Attempt(
        started_at=row.id / NANO,
        seconds=row.seconds,
        generation=row.generation,
        deployment=row.deployment,
        fallback=row.fallback,
        outcome=row.outcome,
        status_code=row.status_code,
        error_code=row.error_code,
        request_id=row.request_id,
        model=row.model,
        input_tokens=row.input_tokens,
        cached_tokens=row.cached_tokens,
        output_tokens=row.output_tokens,
        reasoning_tokens=row.reasoning_tokens,
        cost_usd=None if row.cost is None else present.usd(row.cost),
    )
