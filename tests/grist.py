"""Running batches for tests of the store: taken in, published, claimed and ended as real workers would."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import sqlalchemy
from sqlmodel import Session, select

from providers.usage import Usage
from tests import rows
from worker import clock, output_line, tables
from worker.database import Database
from worker.states import JobState, Outcome, SliceState
from worker.store import due, endings, intake, recording, slices
from worker.store.calls import Ended, Granted, Recorded, Start
from worker.store.intake import BadLine, Chunk, NewJob
from worker.store.slices import Claim, ClaimedJob
from worker.tables import BATCH, JOB, SLICE, TALLY, Batch

ROUTE = "mill/flour"
LEASE = 60.0
FAR = "elsewhere/1/2/3"
"""A process of another machine: nobody here can tell whether it lives."""

_attempts = count(1)


def new_job(line: int, route: str = ROUTE, custom_id: str | None = None) -> NewJob:
    return NewJob(
        line=line,
        route=route,
        custom_id=custom_id or f"line-{line}",
        endpoint="chat/completions",
        offset=100 * line,
        length=90,
        model_offset=10,
        model_length=8,
        input_tokens=10,
        output_tokens=20,
    )


def add(
    database: Database,
    *sizes: int,
    routes: Sequence[str] = (ROUTE,),
    bad: int = 0,
    prices: tuple[int | None, int | None] = (1, 2),
    owner: str = "local",
    **columns: Any,
) -> int:
    """The number of a new batch in progress, with slices of these sizes and, at its end, so many bad lines."""

    def create(session: Session) -> int:
        batch = rows.add_batch(session, owner=owner)
        assert batch.number is not None
        batch.invalid_lines = "report"
        for name, value in columns.items():
            setattr(batch, name, value)
        session.flush()
        chunk = Chunk(line=0, offset=0, next_line=sum(sizes) + bad, next_offset=1_000)
        line = 1
        for place, size in enumerate(sizes):
            route = routes[place % len(routes)]
            chunk.slices.append((route, [new_job(line + i, route) for i in range(size)]))
            chunk.prices[route] = prices
            line += size
        chunk.bad = [
            BadLine(line=line + i, custom_id=f"line-{line + i}", code="bad", message="bad", param=None)
            for i in range(bad)
        ]
        intake.append(session, batch, chunk)
        intake.conclude(session, batch.number)
        session.flush()
        session.refresh(batch)
        due.rest(session, batch.number, batch.due_at)
        return batch.number

    return database.write(create)


def batch(database: Database, number: int) -> Batch:
    with database.read() as session:
        return session.exec(select(Batch).where(Batch.number == number)).one()


def change(database: Database, number: int, **columns: Any) -> None:
    statement = sqlalchemy.update(BATCH).where(BATCH.c.number == number).values(**columns)
    database.write(lambda session: session.connection().execute(statement))


def change_slice(database: Database, slice: int, **columns: Any) -> None:
    statement = sqlalchemy.update(SLICE).where(SLICE.c.id == slice).values(**columns)
    database.write(lambda session: session.connection().execute(statement))


def late(database: Database, slice: int) -> None:
    """The lease has expired."""
    change_slice(database, slice, lease_until=clock.now() - 1)


def all_of(database: Database, table: sqlalchemy.Table, *where: Any, order: Any = None) -> Sequence[Any]:
    with database.read() as session:
        statement = sqlalchemy.select(table).where(*where).order_by(*(table.primary_key if order is None else (order,)))
        return session.connection().execute(statement).all()


def slices_of(database: Database, number: int, *states: SliceState) -> Sequence[Any]:
    chosen = states or tuple(SliceState)
    return all_of(database, SLICE, SLICE.c.batch == number, SLICE.c.state.in_(chosen))


def slice_of(database: Database, slice: int) -> Any:
    [row] = all_of(database, SLICE, SLICE.c.id == slice)
    return row


def job(database: Database, number: int, line: int) -> Any:
    [row] = all_of(database, JOB, JOB.c.id == tables.job_id(number, line))
    return row


def tally(database: Database, number: int, route: str = ROUTE) -> Any:
    [row] = all_of(database, TALLY, TALLY.c.batch == number, TALLY.c.route == route)
    return row


def stop(database: Database, number: int, reason: str = "cancel") -> None:
    status = {"status": "cancelling"} if reason == "cancel" else {}
    change(database, number, stop=reason, stop_at=1.0, due_at=1.0, **status)


def settle(database: Database, number: int) -> str | None:
    """What the closer does with a batch that is due."""
    while database.write(lambda session: endings.stop_lines(session, number)):
        continue
    return database.write(lambda session: endings.finalize(session, number))


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker process as SQL sees it."""

    database: Database
    name: str = FAR

    def claim(self, slice: int, *, provider: str = "mill") -> Claim:
        claim = self.try_claim(slice, provider=provider)
        assert claim is not None
        return claim

    def try_claim(self, slice: int, *, provider: str = "mill") -> Claim | None:
        """Publish the slice if it is ready, and take it."""
        self.database.write(lambda session: slices.publish(session, slice, provider))
        epoch = slice_of(self.database, slice).epoch
        return self.database.write(lambda session: slices.claim(session, slice, epoch, self.name, LEASE))

    def start(self, claim: Claim, *jobs: ClaimedJob, cost: int = 0) -> Granted:
        asked = start(claim, *jobs, cost=cost)
        return self.record(starts=[asked]).granted[0]

    def record(self, *ends: Ended, starts: Sequence[Start] = (), again: bool = False) -> Recorded:
        return self.database.write(lambda session: recording.record(session, self.name, ends, starts, again=again))

    def begin(self, slice: int, *, cost: int = 0) -> Claim:
        """Claim a slice and start all of its jobs."""
        claim = self.claim(slice)
        assert self.start(claim, cost=cost).count == len(claim.jobs)
        return claim

    def release(self, claim: Claim, *, wait: float | None = None, waits: Sequence[tuple[int, float, int]] = ()) -> bool:
        return self.database.write(
            lambda session: slices.release(session, claim.slice, claim.epoch, wait=wait, waits=waits)
        )


def start(claim: Claim, *jobs: ClaimedJob, cost: int = 0) -> Start:
    chosen = jobs or claim.jobs
    return Start(
        slice=claim.slice,
        epoch=claim.epoch,
        batch=claim.batch,
        route=claim.route,
        jobs=tuple(one.id for one in chosen),
        costs=(cost,) * len(chosen),
    )


def end(claim: Claim, job: ClaimedJob, outcome: Outcome = Outcome.SUCCEEDED, **facts: Any) -> Ended:
    """One end of a call; a line if the outcome is final."""
    facts.setdefault("attempt", next(_attempts))
    if outcome is Outcome.SUCCEEDED:
        facts.setdefault("kind", "output")
        facts.setdefault("line", output_line.answered(job.id, job.custom_id, 200, "req", b'{"id":"x"}'))
        facts.setdefault("usage", Usage(input_tokens=11, cached_tokens=3, output_tokens=7, reasoning_tokens=2))
        facts.setdefault("cost", 25)
    if outcome is Outcome.FAILED:
        facts.setdefault("kind", "error")
        facts.setdefault("line", output_line.answered(job.id, job.custom_id, 400, None, b'{"error":{}}'))
        facts.setdefault("error_code", "bad_request")
    return Ended(
        job=job.id,
        slice=claim.slice,
        epoch=claim.epoch,
        batch=claim.batch,
        route=claim.route,
        owner=claim.owner,
        generation=job.generation,
        deployment=claim.route,
        seconds=0.5,
        outcome=outcome,
        **facts,
    )


def states_of(database: Database, number: int) -> list[JobState]:
    first, last = tables.job_id(number, 0), tables.job_id(number + 1, 0) - 1
    return [JobState(row.state) for row in all_of(database, JOB, JOB.c.id.between(first, last))]


def plan(database: Database, statement: str) -> str:
    """How the database would answer; Postgres as if the tables were too large to be read whole."""
    with database.read() as session:
        connection = session.connection()
        if connection.dialect.name == "sqlite":
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}").all()
            return "\n".join(str(row[3]) for row in rows)
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        connection.exec_driver_sql("SET LOCAL enable_bitmapscan = off")
        return "\n".join(row[0] for row in connection.exec_driver_sql(f"EXPLAIN {statement}"))
