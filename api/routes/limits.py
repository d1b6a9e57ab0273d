"""/v1/limits: how the quotas stand that calls spend."""

from collections.abc import Callable

from fastapi import APIRouter
from sqlmodel import Session

from api import errors, faults, limit_answer, schemas
from api.deps import CallerDep, ServicesDep
from api.keyring import Caller
from api.limit_schemas import Configuration, Scope, ScopeList, ShareChange
from api.services import Services
from worker.store import scopes

router = APIRouter(prefix="/v1/limits", tags=["limits"])


@router.get("")
def list_limits(services: ServicesDep, caller: CallerDep) -> ScopeList:
    """Every scope (provider, account, model) that is known: limits and who told them, use, rests, who waits.

    With an API key: the scopes that one's running batches use.
    """
    owner = None if caller.api_key is None else caller.owner
    with services.database.read() as session:
        found = limit_answer.scopes_of(session, services, owner=owner)
    return ScopeList(data=found, configuration=_configuration(services) if owner is None else None)


@router.post("/{scope:path}/resume", responses=schemas.error_responses(403, 404))
def resume(scope: str, services: ServicesDep, caller: CallerDep, body: schemas.BatchCancel | None = None) -> Scope:
    """Somebody has mended it: one call finds out now whether a paused scope works again."""
    return _changed(services, caller, scope, lambda session: scopes.probe_soon(session, [scope]))


@router.post("/{scope:path}", responses=schemas.error_responses(400, 403, 404))
def change(scope: str, body: ShareChange, services: ServicesDep, caller: CallerDep) -> Scope:
    """Another share of the scope's limits, from the next seconds on and until it is null again."""
    return _changed(services, caller, scope, lambda session: scopes.set_share(session, scope, body.share))


def _changed(services: Services, caller: Caller, scope: str, change: Callable[[Session], None]) -> Scope:
    """Raises Forbidden for everybody but the operator, and NotFound."""
    if caller.api_key is not None:
        raise errors.Forbidden("Only the user of the server's own machine may change limits.", code="not_allowed")
    if services.limits_of(scope) is None:
        raise errors.NotFound(
            f"No scope '{faults.shown(scope)}': it is <provider>/<account>/<model> of a configured provider, "
            "as GET /v1/limits shows it.",
            param="scope",
        )
    services.database.write(change)
    with services.database.read() as session:
        found = limit_answer.scopes_of(session, services, owner=None)
    return next((one for one in found if one.scope == scope), limit_answer.unused(services, scope))


def _configuration(services: Services) -> Configuration | None:
    live = services.configuration
    if live is None:
        return None
    return Configuration(path=None if live.path is None else str(live.path), fault=live.fault, postponed=live.postponed)
