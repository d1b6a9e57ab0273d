"""Scopes that rest: a dead key, an empty balance, an outage. At ``probe_at`` one job finds out whether it ended."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import or_, select, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlmodel import Session

from providers.json_text import storable
from worker import clock, tables
from worker.tables import SCOPE

FIRST_PROBE = {"outage": 1.0, "no_progress": 30.0}
LONGEST_PROBE = {"outage": 15.0}
FIRST_PROBE_ELSE, LONGEST_PROBE_ELSE = 30.0, 600.0
"""Seconds between probes: outages end by themselves, keys and balances by a person."""

KEY_REASONS = ("auth", "balance")
"""What another key may mend."""
DETAIL_LENGTH = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class PausedScope:
    """Why a scope rests, since when, and in how many seconds it may be probed (0: now)."""

    id: str
    reason: str
    detail: str | None
    paused_at: float
    probe_in: float


def paused(session: Session) -> dict[str, PausedScope]:
    statement = select(SCOPE, clock.now().label("now")).where(SCOPE.c.paused_at.is_not(None))
    rows = session.connection().execute(statement).all()
    return {
        row.id: PausedScope(
            id=row.id,
            reason=row.reason,
            detail=row.detail,
            paused_at=row.paused_at,
            probe_in=max(0.0, row.probe_at - row.now),
        )
        for row in rows
    }


def cooling(session: Session) -> dict[str, float]:
    """Seconds for which scopes are to be avoided where others can serve."""
    left = (SCOPE.c.cools_until - clock.now()).label("left")
    rows = session.connection().execute(select(SCOPE.c.id, left).where(SCOPE.c.cools_until > clock.now()))
    return {row.id: float(row.left) for row in rows}


def cool(session: Session, scope: str, seconds: float) -> None:
    """Avoid the scope for so long from now on."""
    _made(session, scope)
    change = update(SCOPE).where(SCOPE.c.id == scope).values(cools_until=clock.now() + seconds)
    session.connection().execute(change)


def pause(session: Session, scope: str, reason: str, detail: str, *, wait: float | None, probed: bool = False) -> None:
    """Rest the scope; after a probe in vain (``probed``) twice as long as before. ``wait``: what the provider asked."""
    now = session.connection().execute(select(clock.now())).scalar_one()
    row = _locked(session, scope)
    if row.paused_at is None or row.reason != reason:
        row.paused_at, row.probes, probed = row.paused_at or now, 0, True
    if probed:
        first = FIRST_PROBE.get(reason, FIRST_PROBE_ELSE)
        longest = LONGEST_PROBE.get(reason, LONGEST_PROBE_ELSE)
        row.probe_at = now + max(wait or 0.0, min(longest, first * 2.0 ** min(row.probes, 20)))
    row.reason, row.detail = reason, storable(detail, DETAIL_LENGTH)
    session.add(row)


def probe(session: Session, scope: str, seconds: float) -> bool:
    """Take the right to send one probing job; another probe is due after ``seconds`` if nothing is heard of it."""
    changed = session.connection().execute(
        update(SCOPE)
        .where(SCOPE.c.id == scope, SCOPE.c.paused_at.is_not(None), SCOPE.c.probe_at <= clock.now())
        .values(probe_at=clock.now() + seconds, probes=SCOPE.c.probes + 1)
    )
    return changed.rowcount == 1


def probe_soon(session: Session, scopes: Collection[str]) -> None:
    """A person says that it is mended: the next probe is due now, and the waits begin anew."""
    session.connection().execute(
        update(SCOPE)
        .where(SCOPE.c.id.in_(scopes), SCOPE.c.paused_at.is_not(None))
        .values(probe_at=clock.now(), probes=0)
    )


def probe_account(session: Session, provider: str, account: str) -> None:
    """A new key: what rests for the old one's sake is probed now."""
    name = f"{provider}/{account}"
    mine = or_(SCOPE.c.id == name, SCOPE.c.id.startswith(f"{name}/", autoescape=True))
    statement = select(SCOPE.c.id).where(mine, SCOPE.c.reason.in_(KEY_REASONS))
    probe_soon(session, session.connection().execute(statement).scalars().all())


def resume(session: Session, scopes: Sequence[str]) -> int:
    changed = session.connection().execute(
        update(SCOPE)
        .where(SCOPE.c.id.in_(scopes), SCOPE.c.paused_at.is_not(None))
        .values(paused_at=None, reason=None, detail=None, probe_at=None, probes=0)
    )
    return changed.rowcount


def shares(session: Session) -> dict[str, float]:
    """The parts of their limits that scopes may use, where somebody said so while everything ran."""
    statement = select(SCOPE.c.id, SCOPE.c.share).where(SCOPE.c.share.is_not(None))
    return {row.id: row.share for row in session.connection().execute(statement)}


def set_share(session: Session, scope: str, share: float | None) -> None:
    """None: as configured."""
    row = _locked(session, scope)
    row.share = share
    session.add(row)


def _locked(session: Session, scope: str) -> tables.Scope:
    """The scope's row, made if there is none; two processes may find out at once."""
    _made(session, scope)
    return session.get_one(tables.Scope, scope, with_for_update=True)


def _made(session: Session, scope: str) -> None:
    sqlite = session.connection().dialect.name == "sqlite"
    insert = sqlite_insert(SCOPE) if sqlite else postgres_insert(SCOPE)
    session.connection().execute(
        insert.values(id=scope, owner="operator", probes=0).on_conflict_do_nothing(index_elements=["id"])
    )
