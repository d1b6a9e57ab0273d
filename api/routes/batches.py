"""/v1/batches."""

import hashlib
import json
from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, BackgroundTasks, Header, Query, Response
from sqlmodel import Session

from api import batch_answer, errors, faults, idempotency, present, schemas, webhook_targets
from api.deps import CallerDep, ServicesDep
from api.keyring import Caller
from api.services import Services
from worker import windows
from worker.states import Kind
from worker.store import batches, deletion, progress
from worker.store.batches import NewBatch
from worker.webhooks import event_types

router = APIRouter(prefix="/v1/batches", tags=["batches"])


@router.post("", response_model=schemas.Batch, responses=schemas.error_responses(400, 422))
def create(
    body: schemas.BatchCreate,
    services: ServicesDep,
    caller: CallerDep,
    background: BackgroundTasks,
    said: idempotency.SaidDep,
    x_stainless_retry_count: Annotated[str, Header()] = "0",
) -> Response:
    """Start a batch. Sent again with the same Idempotency-Key, it answers with the first one.

    Without a key that happens within ten minutes, and to an SDK which says that it lost the answer.
    """
    new = _new_batch(body, caller, services)
    keyed = said(f"/v1/batches {new.fingerprint}")
    resent = keyed is None and x_stainless_retry_count.isdecimal() and int(x_stainless_retry_count[:9]) >= 1
    begun: list[int] = []

    def execute(session: Session) -> schemas.Batch:
        row, is_new = batches.create(session, new, resent=resent)
        begun[:] = [row.number] if is_new and row.number is not None else []
        return batch_answer.shown_in(session, services, row)

    try:
        answer = idempotency.create(services.database, keyed, execute)
    except batches.InputFileMissing:
        message = f"No such File object: {faults.shown(body.input_file_id)}"
        raise errors.BadRequest(message, param="input_file_id", code="file_not_found") from None
    except batches.WrongPurpose:
        message = "The input file must have been uploaded with purpose 'batch'."
        raise errors.BadRequest(message, param="input_file_id", code="invalid_purpose") from None
    for number in begun:
        background.add_task(services.doorbell.ring_intake, number)
    return idempotency.response(answer)


@router.get("", responses=schemas.error_responses(400))
def list_batches(
    services: ServicesDep,
    caller: CallerDep,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    identity: schemas.Identity | None = None,
    kind: Literal["batch", "messages"] = "batch",
) -> schemas.BatchList:
    """Newest first. ``identity`` finds the batches of a ``gristmill run``; ``messages`` are Anthropic's batches."""
    with services.database.read() as session:
        cursor = batches.get(session, caller.owner, after) if after is not None else None
        if after is not None and cursor is None:
            raise errors.BadRequest("'after' is not the id of a batch.", param="after", code="invalid_cursor")
        number = cursor.number if cursor else None
        rows = batches.page(session, caller.owner, limit=limit + 1, after=number, identity=identity, kind=Kind(kind))
        page = rows[:limit]
        found = progress.of(
            session,
            page,
            scopes_of=batch_answer.scopes_of(services),
            errors=batch_answer.ERRORS_LISTED,
            serves=batch_answer.serves(session, services),
        )
    return schemas.BatchList(
        data=[present.batch(row, found[row.number or 0]) for row in page],
        first_id=page[0].id if page else None,
        last_id=page[-1].id if page else None,
        has_more=len(rows) > limit,
    )


@router.get("/{batch_id}", responses=schemas.error_responses(404))
def retrieve(batch_id: str, services: ServicesDep, caller: CallerDep) -> schemas.Batch:
    with services.database.read() as session:
        row = batches.get(session, caller.owner, batch_id)
    return batch_answer.shown(services, batch_answer.found(row, batch_id))


@router.delete("/{batch_id}", responses=schemas.error_responses(404, 409))
def delete(batch_id: str, services: ServicesDep, caller: CallerDep, files: bool = False) -> schemas.BatchDeleted:
    """Gone at once for everybody, its bytes soon after; what it used and cost stays in /v1/usage.

    With ``files=true`` its input file goes too.
    """
    change = partial(deletion.delete, owner=caller.owner, id=batch_id, with_input=files)
    try:
        deleted = services.database.write(change)
    except deletion.NotAtRest as fault:
        message = f"Cannot delete a batch with status '{fault.status}': cancel it and wait until it has ended."
        raise errors.Conflict(message) from None
    if not deleted:
        raise batch_answer.missing(batch_id)
    return schemas.BatchDeleted(id=batch_id)


@router.get("/{batch_id}/errors", responses=schemas.error_responses(404))
def line_errors(
    batch_id: str,
    services: ServicesDep,
    caller: CallerDep,
    after_line: Annotated[int, Query(ge=-1, le=schemas.INTEGER)] = -1,
    limit: Annotated[int, Query(ge=1, le=batch_answer.ERRORS_SHOWN)] = 1_000,
) -> schemas.LineErrors:
    """Every faulty line of the input file, in order."""
    with services.database.read() as session:
        row = batch_answer.found(batches.get(session, caller.owner, batch_id), batch_id)
        found = progress.line_errors(session, row.number or 0, limit=limit, after=after_line)
    return present.line_errors(found)


def _new_batch(body: schemas.BatchCreate, caller: Caller, services: Services) -> NewBatch:
    options = body.gristmill or schemas.BatchOptions()
    webhook_targets.check(services, options.webhook_url, "gristmill.webhook_url")
    return NewBatch(
        owner=caller.owner,
        api_key=caller.api_key,
        endpoint=body.endpoint,
        input_file_id=body.input_file_id,
        completion_window=body.completion_window,
        window_seconds=windows.seconds(body.completion_window, standard=services.day_window_seconds),
        fingerprint=_fingerprint(body),
        metadata=body.metadata or {},
        identity=options.identity,
        priority=options.priority,
        hold=options.hold,
        invalid_lines=options.invalid_lines,
        line_limit=options.line_limit,
        max_cost=None if options.max_cost is None else present.picousd(options.max_cost),
        allow_unknown_cost=options.allow_unknown_cost,
        allow_fallback=options.allow_fallback,
        output_expires_after=body.output_expires_after.seconds if body.output_expires_after else None,
        webhook_url=options.webhook_url,
        webhook_events=list(options.webhook_events or event_types.ENDED),
    )


def _fingerprint(body: schemas.BatchCreate) -> str:
    """Equal bodies have equal fingerprints, whatever their spaces and the order of their keys."""
    said = json.dumps(body.model_dump(mode="json", exclude_unset=True), sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()
