"""How busy scopes are, as all processes together say."""

from sqlalchemy import func, select
from sqlmodel import Session

from worker import clock
from worker.tables import QUOTA, SCOPE_REPORT

RECENT_SECONDS = 120.0
"""What was said longer ago does not count."""


def seconds(session: Session) -> dict[str, float]:
    """What an answer of each scope takes."""
    statement = (
        select(SCOPE_REPORT.c.scope, func.avg(SCOPE_REPORT.c.seconds).label("seconds"))
        .where(SCOPE_REPORT.c.reported_at > clock.now() - RECENT_SECONDS, SCOPE_REPORT.c.seconds > 0)
        .group_by(SCOPE_REPORT.c.scope)
    )
    return {row.scope: float(row.seconds) for row in session.connection().execute(statement)}


def headroom(session: Session) -> dict[str, float]:
    """The part of each scope's scarcest quota that is left, 0 to 1."""
    part = func.min(QUOTA.c.level / QUOTA.c.allowed).label("part")
    statement = (
        select(QUOTA.c.scope, part)
        .where(QUOTA.c.seen_at > clock.now() - RECENT_SECONDS, QUOTA.c.allowed > 0)
        .group_by(QUOTA.c.scope)
    )
    return {row.scope: min(1.0, max(0.0, float(row.part))) for row in session.connection().execute(statement)}
