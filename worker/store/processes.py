"""Worker processes and who leads: heartbeats and elections, all by the database's clock."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, insert, literal, or_, select, update
from sqlmodel import Session

from worker import clock, tables
from worker.owner import is_dead
from worker.store.slices import distrust_messages
from worker.tables import LEADERSHIP, PROCESS

FORGET_SECONDS = 7 * 86400.0


@dataclass(frozen=True, kw_only=True, slots=True)
class LivingProcess:
    """A process that beat its heart within the lease."""

    id: str
    name: str
    queues: tuple[str, ...]
    slots: int


def register(session: Session, process: str, name: str, queues: Sequence[str], slots: int) -> None:
    now = session.connection().execute(select(clock.now())).scalar_one()
    session.add(
        tables.Process(
            id=process, owner="operator", name=name, queues=list(queues), slots=slots, started_at=now, seen_at=now
        )
    )
    session.connection().execute(delete(PROCESS).where(PROCESS.c.seen_at < clock.now() - FORGET_SECONDS))


def beat(session: Session, process: str) -> None:
    session.connection().execute(update(PROCESS).where(PROCESS.c.id == process).values(seen_at=clock.now()))


def leave(session: Session, process: str) -> None:
    """Sign off in order."""
    distrust_messages(session)
    session.connection().execute(update(PROCESS).where(PROCESS.c.id == process).values(stopped_at=clock.now()))


def living(session: Session, lease_seconds: float) -> list[LivingProcess]:
    statement = select(PROCESS.c.id, PROCESS.c.name, PROCESS.c.queues, PROCESS.c.slots).where(
        PROCESS.c.stopped_at.is_(None), PROCESS.c.seen_at > clock.now() - lease_seconds
    )
    rows = session.connection().execute(statement.order_by(PROCESS.c.started_at)).all()
    return [
        LivingProcess(id=row.id, name=row.name, queues=tuple(row.queues), slots=row.slots)
        for row in rows
        if not is_dead(row.id)
    ]


def lead(session: Session, name: str, process: str, seconds: float) -> bool:
    """Take or keep the leadership for ``seconds``. False while another living process has it."""
    connection = session.connection()
    row = connection.execute(select(LEADERSHIP).where(LEADERSHIP.c.name == name)).one_or_none()
    if row is None:
        values = {"name": name, "owner": "operator", "holder": process, "until": clock.now() + seconds}
        connection.execute(insert(LEADERSHIP).values(values))
        return True
    changed = connection.execute(
        update(LEADERSHIP)
        .where(
            LEADERSHIP.c.name == name,
            LEADERSHIP.c.holder == row.holder,
            or_(LEADERSHIP.c.holder == process, LEADERSHIP.c.until < clock.now(), literal(is_dead(row.holder))),
        )
        .values(holder=process, until=clock.now() + seconds)
    )
    return changed.rowcount == 1


def resign(session: Session, name: str, process: str) -> None:
    session.connection().execute(
        update(LEADERSHIP).where(LEADERSHIP.c.name == name, LEADERSHIP.c.holder == process).values(until=0.0)
    )
