from tests import grist
from tests.grist import Worker
from worker.database import Database
from worker.store import usage


def test_sums_are_the_batch_s_own(database: Database, worker: Worker) -> None:
    number = grist.add(database, 3)
    claim = worker.begin(grist.slices_of(database, number)[0].id)
    worker.record(*(grist.end(claim, job) for job in claim.jobs))
    with database.read() as session:
        [row] = usage.sums(session, "local", "model")
        assert usage.sums(session, "local", "day", first="2026-01-01") == []
    batch = grist.batch(database, number)
    assert (row.key, row.attempts, row.input_tokens) == (grist.ROUTE, batch.attempts, batch.input_tokens)
    assert round(row.cost_usd * 10**12) == batch.cost
