"""Scopes as they are answered: what was configured, what was learned, how they stand, and who waits for them."""

import contextlib
from collections import defaultdict
from collections.abc import Iterable

from sqlmodel import Session

from api import batch_answer, present
from api.limit_schemas import Pause, Quota, Scope
from api.services import Services
from providers.rate_limits import PERIOD_SECONDS, QUOTAS, REQUESTS
from worker.catalog import ScopeLimits
from worker.routes import RouteError
from worker.store import progress, scope_reports, scopes, waiting
from worker.store.scope_reports import Known, KnownQuota
from worker.store.scopes import PausedScope

BATCHES_SHOWN = 20


def scopes_of(session: Session, services: Services, *, owner: str | None) -> list[Scope]:
    """Those that an owner's running batches use, or all that are known if no owner is named."""
    batches = _waiting(session, services, owner)
    known, resting, shares = scope_reports.known(session), scopes.paused(session), scopes.shares(session)
    now = progress.now(session)
    names = batches.keys() if owner is not None else batches.keys() | known.keys() | resting.keys() | shares.keys()
    return [
        _scope(
            name,
            services.limits_of(name) or ScopeLimits(),
            known.get(name, Known()),
            shares.get(name),
            resting.get(name),
            batches.get(name, []),
            now,
        )
        for name in sorted(names)
    ]


def unused(services: Services, name: str) -> Scope:
    """A scope of which nothing is known but its configuration."""
    return _scope(name, services.limits_of(name) or ScopeLimits(), Known(), None, None, [], 0.0)


def _waiting(session: Session, services: Services, owner: str | None) -> dict[str, list[str]]:
    """Running batches by scope. A route that leads nowhere any more spends no quota."""
    of_route = batch_answer.scopes_of(services)
    found: dict[str, list[str]] = defaultdict(list)
    for row in waiting.routes(session, owner=owner):
        with contextlib.suppress(RouteError):
            for scope in of_route(row.route):
                if row.id not in found[scope]:
                    found[scope].append(row.id)
    return dict(found)


def _scope(
    name: str,
    limits: ScopeLimits,
    known: Known,
    share: float | None,
    resting: PausedScope | None,
    batches: list[str],
    now: float,
) -> Scope:
    part = limits.share if share is None else share
    return Scope(
        scope=name,
        share=part,
        share_source="config" if share is None else "set",
        quotas=list(_quotas(limits, known, part)),
        concurrency=limits.concurrency,
        places=known.places,
        in_flight=known.in_flight,
        waiting=known.waiting,
        seconds=known.seconds,
        requests=known.requests,
        tokens=known.tokens,
        resting_until=present.seconds(known.rest_until) if known.rest_until and known.rest_until > now else None,
        paused=None if resting is None else _pause(resting, now),
        batches=batches[:BATCHES_SHOWN],
        batches_total=len(batches),
    )


def _quotas(limits: ScopeLimits, known: Known, share: float) -> Iterable[Quota]:
    """As in force; what is configured and was never used is in force as well."""
    for quota in QUOTAS:
        found = known.quotas.get(quota)
        told = limits.told.get(quota)
        if told is not None and (found is None or told < found.allowed or found.source == scope_reports.BY_CONFIG):
            level = None if found is None or found.allowed != told else found.level
            found = KnownQuota(allowed=told, source=scope_reports.BY_CONFIG, learned_at=0.0, level=level)
        elif found is None or found.source == scope_reports.BY_CONFIG:
            continue
        yield Quota(
            quota=quota,
            limit=found.allowed,
            usable=found.allowed * share,
            per="minute" if PERIOD_SECONDS[quota] == PERIOD_SECONDS[REQUESTS] else "day",
            source=found.source,
            learned_at=present.seconds(found.learned_at or None),
            left=found.level,
        )


def _pause(scope: PausedScope, now: float) -> Pause:
    return Pause(
        reason=scope.reason, detail=scope.detail, since=int(scope.paused_at), probe_at=int(now + scope.probe_in)
    )
