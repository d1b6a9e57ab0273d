"""A batch as its owner is answered: found or 404, with its progress."""

import functools
from collections.abc import Callable, Collection

from sqlmodel import Session

from api import errors, faults, present, schemas
from api.services import Services
from worker import celery_app
from worker.store import processes, progress
from worker.tables import Batch

ERRORS_SHOWN, ERRORS_LISTED = 10_000, 100
"""Faulty lines in one batch, and in each batch of a list; all of them are at /v1/batches/{id}/errors."""


def found(row: Batch | None, id: str) -> Batch:
    """Raises NotFound."""
    if row is None:
        raise missing(id)
    return row


def missing(id: str) -> errors.NotFound:
    return errors.NotFound(f"No batch found with id '{faults.shown(id)}'.")


def shown(services: Services, row: Batch) -> schemas.Batch:
    with services.database.read() as session:
        return shown_in(session, services, row)


def shown_in(session: Session, services: Services, row: Batch, *, errors: int = ERRORS_SHOWN) -> schemas.Batch:
    """``shown`` of what a transaction under way has made of the batch."""
    known = progress.of(session, [row], scopes_of=scopes_of(services), errors=errors, serves=serves(session, services))
    return present.batch(row, known[row.number or 0])


def serves(session: Session, services: Services) -> Callable[[str], bool]:
    """Whether a living worker calls a provider; looked up if it is asked."""

    @functools.cache
    def queues() -> frozenset[str]:
        workers = processes.living(session, services.lease_seconds)
        return frozenset(queue for worker in workers for queue in worker.queues)

    return lambda provider: celery_app.provider_queue(provider) in queues()


def scopes_of(services: Services) -> Callable[[str], Collection[str]]:
    """Whose quota a route may spend. What it gives raises RouteError for a route that leads nowhere any more."""

    def scopes(route: str) -> Collection[str]:
        return {deployment.scope for deployment in services.routes.resolve(route).deployments}

    return scopes
