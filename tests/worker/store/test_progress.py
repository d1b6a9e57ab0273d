import sqlalchemy
from sqlmodel import Session, col

from tests import grist, rows
from worker import clock
from worker.database import Database
from worker.routes import MissingKey
from worker.states import BatchStatus, SliceState
from worker.store import etas, progress, scopes
from worker.store.progress import Block, Progress
from worker.tables import Batch, LineError, Slice, Tally

MODEL = "openai/gpt-4o-mini"
SCOPE = "openai/default/gpt-4o-mini"


def of(database: Database, *batches: Batch, errors: int = 10) -> dict[int, Progress]:
    with database.read() as session:
        return progress.of(session, batches, scopes_of=lambda route: {SCOPE} if route == MODEL else (), errors=errors)


def running(session: Session) -> Batch:
    batch = rows.begin(session, rows.add_batch(session))
    assert batch.number is not None
    session.add(Tally(batch=batch.number, route=MODEL, owner="local", lines=3, completed=1))
    session.flush()
    return batch


def one(database: Database, batch: Batch) -> Progress:
    assert batch.number is not None
    return of(database, batch)[batch.number]


def test_calls_in_flight_are_those_of_living_leases(database: Database) -> None:
    batch = database.write(running)

    assert batch.number is not None
    number = batch.number

    def lease(session: Session) -> None:
        now = session.connection().execute(sqlalchemy.select(clock.now())).scalar_one()
        for state, until, started in (
            (SliceState.LEASED, now + 60, "1,2,3"),
            (SliceState.LEASED, now + 60, ""),
            (SliceState.LEASED, now - 1, "4"),
            (SliceState.READY, None, "5"),
        ):
            session.add(
                Slice(
                    owner="local",
                    batch=number,
                    route=MODEL,
                    state=state,
                    first_line=1,
                    jobs=3,
                    open=3,
                    lease_until=until,
                    started=started,
                )
            )

    database.write(lease)
    assert one(database, batch).in_flight == 3


def test_a_resting_scope_blocks_the_batches_that_spend_it(database: Database) -> None:
    blocked, free = database.write(running), database.write(rows.add_batch)
    database.write(lambda session: scopes.pause(session, SCOPE, "auth", "401 invalid_api_key", wait=None))
    database.write(lambda session: scopes.pause(session, "other/default", "outage", "refused", wait=None))
    found = of(database, blocked, free)
    assert [(b.scope, b.reason, b.detail) for b in found[blocked.number or 0].blocks] == [
        (SCOPE, "auth", "401 invalid_api_key")
    ]
    assert found[free.number or 0].blocks == []


def test_a_route_without_open_lines_is_blocked_by_nothing(database: Database) -> None:
    batch = database.write(running)
    database.write(lambda session: scopes.pause(session, SCOPE, "auth", "dead key", wait=None))
    done = sqlalchemy.update(Tally).values(completed=col(Tally.lines))
    database.write(lambda session: session.connection().execute(done))
    assert one(database, batch).blocks == []


def test_caps_and_models_that_fail_alike_are_named(database: Database) -> None:
    batch = database.write(running)

    def block(session: Session) -> None:
        session.connection().execute(sqlalchemy.update(Batch).values(capped_at=5.0))
        session.connection().execute(sqlalchemy.update(Tally).values(paused_at=6.0, alike_code="model_not_found"))

    database.write(block)
    with database.read() as session:
        batch = session.merge(batch)
        session.refresh(batch)
    assert one(database, batch).blocks == [
        Block(reason="max_cost", since=5.0),
        Block(reason="failing_alike", since=6.0, model=MODEL, detail="model_not_found"),
    ]


def test_faulty_lines_of_a_failed_batch_come_in_order_and_limited(database: Database) -> None:
    def fail(session: Session) -> Batch:
        batch = rows.add_batch(session)
        assert batch.number is not None
        for line in (5, 2, 9):
            session.add(LineError(batch=batch.number, line=line, owner="local", code="invalid_url", message="no"))
        return rows.end(session, batch, BatchStatus.FAILED)

    batch = database.write(fail)
    assert [error.line for error in one(database, batch).errors] == [2, 5, 9]
    assert batch.number is not None
    assert [error.line for error in of(database, batch, errors=2)[batch.number].errors] == [2, 5]
    with database.read() as session:
        later = progress.line_errors(session, batch.number, limit=10, after=2)
    assert [error.line for error in later] == [5, 9]


def test_a_running_batch_says_when_it_will_be_done(database: Database) -> None:
    batch = database.write(running)
    assert (one(database, batch).done_at, one(database, batch).seconds_left) == (None, None)

    def expect(session: Session, seconds: float) -> float:
        moment = etas.now(session) + seconds
        etas.store(session, {batch.number or 0: ("local", moment)}, [])
        return moment

    moment = database.write(lambda session: expect(session, 100.0))
    found = one(database, batch)
    assert found.done_at == moment and 90 < (found.seconds_left or 0) <= 100
    database.write(lambda session: expect(session, -5.0))
    assert one(database, batch).seconds_left == 0.0
    batch.status = BatchStatus.COMPLETED
    assert one(database, batch).done_at is None


def test_a_route_that_leads_nowhere_any_more_says_what_to_set(database: Database) -> None:
    batch = database.write(running)

    def lost(route: str) -> set[str]:
        raise MissingKey("set the environment variable OPENAI_API_KEY", variable="OPENAI_API_KEY")

    with database.read() as session:
        [block] = progress.of(session, [batch], scopes_of=lost, errors=0)[batch.number or 0].blocks
    assert (block.model, block.reason, block.scope) == (MODEL, "missing_key", None)
    assert block.detail == "set the environment variable OPENAI_API_KEY" and block.since == batch.in_progress_at


def test_a_provider_that_no_worker_calls_is_said(database: Database) -> None:
    batch = database.write(running)

    def blocks(*served: str) -> list[Block]:
        with database.read() as session:
            known = progress.of(
                session, [batch], scopes_of=lambda route: {SCOPE}, errors=0, serves=lambda provider: provider in served
            )
        return known[batch.number or 0].blocks

    assert blocks("openai") == []
    [block] = blocks("mill")
    assert (block.scope, block.reason, block.since) == ("openai", "no_worker", batch.in_progress_at)
    assert "gristmill worker" in (block.detail or "")
    database.write(lambda session: scopes.pause(session, SCOPE, "auth", "no", wait=None))
    assert [block.reason for block in blocks()] == ["auth"]


def test_a_scope_that_lines_have_fallen_back_to_is_told_too(database: Database) -> None:
    number = grist.add(database, 1, routes=("judge",), allow_fallback=True)
    [slice] = grist.slices_of(database, number)
    grist.change_slice(database, slice.id, trail="general spare")
    database.write(lambda session: scopes.pause(session, "spare-scope", "auth", "no", wait=None))
    with database.read() as session:
        row = grist.batch(database, number)
        known = progress.of(
            session, [row], scopes_of=lambda route: {f"{route}-scope"}, errors=0, serves=lambda provider: True
        )
    assert [(block.scope, block.reason) for block in known[number].blocks] == [("spare-scope", "auth")]
