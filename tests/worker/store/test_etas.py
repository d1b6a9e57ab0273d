from sqlmodel import Session

from tests import grist
from worker import clock
from worker.database import Database
from worker.states import Kind
from worker.store import etas
from worker.tables import ETA


def fresh(database: Database, *numbers: int) -> dict[int, float]:
    with database.read() as session:
        return {number: row.done_at for number, row in etas.fresh(session, numbers).items()}


def test_running_batches_are_told_by_model(database: Database) -> None:
    number = grist.add(database, 3, 2, routes=("mill/flour", "mill/bread"), priority=4)
    with database.read() as session:
        rows = {row.route: row for row in etas.running(session)}
    assert {route: (row.lines, row.done) for route, row in rows.items()} == {"mill/flour": (3, 0), "mill/bread": (2, 0)}
    row = rows["mill/flour"]
    assert (row.batch, row.priority, row.owner, row.total, row.line_limit) == (number, 4, "local", 5, None)
    assert (row.estimated_input_tokens, row.estimated_output_tokens, bool(row.waits)) == (30, 60, False)


def test_what_waits_for_its_owner_is_marked(database: Database) -> None:
    runs = grist.add(database, 1, over_budget_until=1.0)
    paused, capped = grist.add(database, 1, paused_at=1.0), grist.add(database, 1, capped_at=1.0)
    spent = grist.add(database, 1, over_budget_until=9e9)
    with database.read() as session:
        waits = {row.batch: bool(row.waits) for row in etas.running(session)}
    assert waits == {runs: False, paused: True, capped: True, spent: True}


def test_held_jobs_and_stopped_batches_are_not_looked_at(database: Database) -> None:
    grist.add(database, 1, kind=Kind.HELD)
    grist.stop(database, grist.add(database, 1), "expire")
    with database.read() as session:
        assert etas.running(session) == []


def test_a_moment_is_stored_replaced_and_removed(database: Database) -> None:
    database.write(lambda session: etas.store(session, {1: ("a", 100.0), 2: ("b", 200.0)}, []))
    database.write(lambda session: etas.store(session, {2: ("b", 250.0)}, [1]))
    assert fresh(database, 1, 2) == {2: 250.0}
    with database.read() as session:
        assert etas.stored(session) == {2: 250.0}


def test_what_nobody_looks_after_is_not_told(database: Database) -> None:
    def old(session: Session) -> None:
        etas.store(session, {1: ("a", 100.0)}, [])
        session.connection().execute(ETA.update().values(made_at=clock.now() - etas.FRESH_SECONDS - 1))

    database.write(old)
    assert fresh(database, 1) == {}
