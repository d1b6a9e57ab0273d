"""What processes say of the scopes that they use: limits as learned, calls in flight, rests. Kept for who asks why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import case, delete, select
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlmodel import Session

from worker import clock
from worker.tables import QUOTA, SCOPE_REPORT

FRESH_SECONDS = 15.0
"""A report that is older is of a process that has ended, or does nothing there."""
FORGET_SECONDS = 3_600.0
BY_CONFIG, BY_HEADERS = "config", "headers"
OWNER = "operator"


@dataclass(frozen=True, kw_only=True, slots=True)
class QuotaState:
    """One quota before any share of it; ``source`` is ``config``, ``headers`` or ``refusals``."""

    allowed: float
    source: str
    level: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """A scope as one process knows it. Seconds; ``requests`` and ``tokens`` are of calls that ended within a minute."""

    scope: str
    quotas: Mapping[str, QuotaState]
    in_flight: int
    waiting: int
    places: float
    seconds: float
    rest: float
    requests: int
    tokens: int


@dataclass(kw_only=True, slots=True)
class Known:
    """A scope as all processes together know it. A level is None if nobody has looked lately."""

    quotas: dict[str, "KnownQuota"] = field(default_factory=dict)
    in_flight: int = 0
    waiting: int = 0
    places: float | None = None
    seconds: float | None = None
    rest_until: float | None = None
    requests: int = 0
    tokens: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownQuota:
    allowed: float
    source: str
    learned_at: float
    level: float | None


def store(session: Session, process: str, reports: Sequence[Report]) -> None:
    """Replace what the process said before. In one order, so that two processes never wait for each other."""
    connection = session.connection()
    now = connection.execute(select(clock.now())).scalar_one()
    chosen = sorted(reports, key=lambda one: one.scope)
    if not chosen:
        return
    insert = _upsert(session, SCOPE_REPORT, ("scope", "process"))
    connection.execute(insert, [_row(one, process, now) for one in chosen])
    quotas = [_quota_row(one.scope, name, state, now) for one in chosen for name, state in sorted(one.quotas.items())]
    if quotas:
        connection.execute(_upsert(session, QUOTA, ("scope", "name")), quotas)
    connection.execute(delete(SCOPE_REPORT).where(SCOPE_REPORT.c.reported_at < now - FORGET_SECONDS))


def learned(session: Session) -> dict[str, dict[str, float]]:
    """By scope and quota: the limits that providers told. What refusals taught was a guess, and is learned anew."""
    found: dict[str, dict[str, float]] = {}
    statement = select(QUOTA.c.scope, QUOTA.c.name, QUOTA.c.allowed).where(QUOTA.c.source == BY_HEADERS)
    for scope, name, allowed in session.connection().execute(statement):
        found.setdefault(scope, {})[name] = allowed
    return found


def known(session: Session) -> dict[str, Known]:
    """By scope."""
    connection = session.connection()
    found: dict[str, Known] = {}
    fresh = (QUOTA.c.seen_at > clock.now() - FRESH_SECONDS).label("fresh")
    for row in connection.execute(select(QUOTA, fresh).order_by(QUOTA.c.scope, QUOTA.c.name)):
        found.setdefault(row.scope, Known()).quotas[row.name] = KnownQuota(
            allowed=row.allowed, source=row.source, learned_at=row.learned_at, level=row.level if row.fresh else None
        )
    lately = SCOPE_REPORT.c.reported_at > clock.now() - FRESH_SECONDS
    for row in connection.execute(select(SCOPE_REPORT).where(lately).order_by(SCOPE_REPORT.c.reported_at)):
        _add(found.setdefault(row.scope, Known()), row)
    return found


def _add(scope: Known, row: Any) -> None:
    """The newest report, which comes last, counts where all processes say the same thing."""
    scope.in_flight += row.in_flight
    scope.waiting += row.waiting
    scope.requests += row.requests
    scope.tokens += row.tokens
    scope.places = row.places
    scope.seconds = row.seconds or scope.seconds
    scope.rest_until = row.rest_until or scope.rest_until


def _row(report: Report, process: str, now: float) -> dict[str, Any]:
    return {
        "scope": report.scope,
        "process": process,
        "owner": OWNER,
        "in_flight": report.in_flight,
        "waiting": report.waiting,
        "places": report.places,
        "seconds": report.seconds,
        "rest_until": now + report.rest if report.rest > 0 else None,
        "requests": report.requests,
        "tokens": report.tokens,
        "reported_at": now,
    }


def _quota_row(scope: str, name: str, state: QuotaState, now: float) -> dict[str, Any]:
    return {
        "scope": scope,
        "name": name,
        "owner": OWNER,
        "allowed": state.allowed,
        "source": state.source,
        "learned_at": now,
        "level": state.level,
        "seen_at": now,
    }


def _upsert(session: Session, table: Any, keys: Sequence[str]) -> Any:
    """An insert that overwrites; a limit that stays what it was keeps the moment when it was learned."""
    insert = sqlite_insert(table) if session.connection().dialect.name == "sqlite" else postgres_insert(table)
    values = {column.name: insert.excluded[column.name] for column in table.c if column.name not in keys}
    if "learned_at" in values:
        same = (table.c.allowed == insert.excluded.allowed) & (table.c.source == insert.excluded.source)
        values["learned_at"] = case((same, table.c.learned_at), else_=insert.excluded.learned_at)
    return insert.on_conflict_do_update(index_elements=list(keys), set_=values)
