"""/v1/batches/{id}/...: what an owner does with a batch that is there."""

from contextlib import suppress

from fastapi import APIRouter
from sqlmodel import Session

from api import batch_answer, errors, present, schemas
from api.deps import CallerDep, ServicesDep
from api.services import Services
from worker import windows
from worker.routes import RouteError
from worker.store import batches, generations, progress, scopes
from worker.store.batches import AtRest, Limits
from worker.store.generations import GenerationError
from worker.tables import Batch

router = APIRouter(prefix="/v1/batches", tags=["batches"])


@router.post("/{batch_id}", responses=schemas.error_responses(400, 404))
def change(batch_id: str, body: schemas.BatchChange, services: ServicesDep, caller: CallerDep) -> schemas.Batch:
    """Another priority, which counts from the next slice on."""
    priority = body.gristmill.priority
    row = services.database.write(lambda session: batches.prioritize(session, caller.owner, batch_id, priority))
    return batch_answer.shown(services, batch_answer.found(row, batch_id))


@router.post("/{batch_id}/cancel", responses=schemas.error_responses(404, 409))
def cancel(
    batch_id: str, services: ServicesDep, caller: CallerDep, body: schemas.BatchCancel | None = None
) -> schemas.Batch:
    """No further call starts; those in flight may end, and what they bring is kept."""
    try:
        row = services.database.write(lambda session: batches.request_cancel(session, caller.owner, batch_id))
    except AtRest as rest:
        raise errors.Conflict(f"Cannot cancel a batch with status '{rest.status}'.") from None
    return batch_answer.shown(services, batch_answer.found(row, batch_id))


@router.post("/{batch_id}/pause", responses=schemas.error_responses(404, 409))
def pause(
    batch_id: str, services: ServicesDep, caller: CallerDep, body: schemas.BatchCancel | None = None
) -> schemas.Batch:
    """No further call starts until the batch is resumed."""
    try:
        row = services.database.write(lambda session: batches.pause(session, caller.owner, batch_id))
    except AtRest as rest:
        raise errors.Conflict(f"Cannot pause a batch with status '{rest.status}'.") from None
    return batch_answer.shown(services, batch_answer.found(row, batch_id))


@router.post("/{batch_id}/resume", responses=schemas.error_responses(400, 404, 409))
def resume(
    batch_id: str, services: ServicesDep, caller: CallerDep, body: schemas.BatchResume | None = None
) -> schemas.Batch:
    """Let a paused, held or capped batch go on, with other limits if the body names some.

    With ``retry_failed`` a batch at rest begins a new generation of the lines that did not succeed.
    """
    said = body or schemas.BatchResume()
    if said.retry_failed:
        _begin_generation(services, caller.owner, batch_id)
    return _go_on(services, caller.owner, batch_id, said)


@router.post("/{batch_id}/retry", responses=schemas.error_responses(400, 404, 409))
def retry(
    batch_id: str, services: ServicesDep, caller: CallerDep, body: schemas.BatchLimits | None = None
) -> schemas.Batch:
    """Run the lines of a batch at rest again that ended as an error, expired or cancelled.

    They are a new generation with file ids of its own; the files of the generations before keep their bytes.
    """
    _begin_generation(services, caller.owner, batch_id)
    return _go_on(services, caller.owner, batch_id, body or schemas.BatchLimits())


@router.post("/{batch_id}/extend", responses=schemas.error_responses(400, 404, 409))
def extend(batch_id: str, body: schemas.BatchExtend, services: ServicesDep, caller: CallerDep) -> schemas.Batch:
    """Another window, which begins now. Here ``24h`` is taken as said."""
    said = body.completion_window
    seconds = windows.seconds(said, standard=windows.DAY)
    try:
        row = services.database.write(lambda session: batches.extend(session, caller.owner, batch_id, said, seconds))
    except batches.Expired:
        raise errors.Conflict(
            "The window of this batch has passed, and it cannot be extended any more. When it is at rest, "
            f"POST /v1/batches/{batch_id}/retry runs its expired lines again."
        ) from None
    except AtRest as rest:
        raise errors.Conflict(f"Cannot extend a batch with status '{rest.status}'.") from None
    return batch_answer.shown(services, batch_answer.found(row, batch_id))


def _begin_generation(services: Services, owner: str, id: str) -> None:
    try:
        batch_answer.found(generations.retry(services.database, owner, id, services.slice_jobs), id)
    except GenerationError as error:
        raise errors.Conflict(str(error)) from None


def _go_on(services: Services, owner: str, id: str, said: schemas.BatchLimits) -> schemas.Batch:
    limits = _limits(said)
    try:
        row = services.database.write(lambda session: batches.resume(session, owner, id, **limits))
    except AtRest as rest:
        raise errors.Conflict(f"Cannot resume a batch with status '{rest.status}'.") from None
    found = batch_answer.found(row, id)
    _probe_soon(services, found)
    return batch_answer.shown(services, found)


def _probe_soon(services: Services, row: Batch) -> None:
    """Whoever resumes has mended something: find out at once."""
    scopes_of = batch_answer.scopes_of(services)

    def probe(session: Session) -> None:
        known: set[str] = set()
        for route in progress.routes(session, row):
            with suppress(RouteError):
                known.update(scopes_of(route))
        scopes.probe_soon(session, known)

    services.database.write(probe)


def _limits(said: schemas.BatchLimits) -> Limits:
    limits: Limits = {}
    if "max_cost" in said.model_fields_set:
        limits["max_cost"] = None if said.max_cost is None else present.picousd(said.max_cost)
    if "allow_unknown_cost" in said.model_fields_set:
        limits["allow_unknown_cost"] = said.allow_unknown_cost
    if "allow_fallback" in said.model_fields_set:
        limits["allow_fallback"] = said.allow_fallback
    if "line_limit" in said.model_fields_set:
        limits["line_limit"] = said.line_limit
    return limits
