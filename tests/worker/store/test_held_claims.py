"""Claims of many held jobs at once: each is taken by one process, with what its call needs."""

from tests import grist, truth
from tests.grist import FAR, LEASE
from tests.worker.store.test_held import BODY, create, new
from worker.database import Database
from worker.states import Kind, SliceState
from worker.store import held, held_claims, slices
from worker.store.slices import Claim
from worker.tables import SLICE


def claim(database: Database, pairs: list[tuple[int, int]], holder: str = FAR) -> list[Claim]:
    return database.write(lambda session: held_claims.claim(session, pairs, holder, LEASE))


def test_each_is_taken_once_as_a_single_claim_would(database: Database) -> None:
    jobs = create(database, new("a"), new("b"), new("c"))
    pairs = [(job.slice or 0, 0) for job in jobs]
    first = claim(database, pairs[:2])
    assert [(one.slice, one.epoch, one.batch, one.batch_id, one.kind) for one in first] == [
        (job.slice, 1, job.number, job.id, Kind.HELD) for job in jobs[:2]
    ]
    second = claim(database, pairs, "elsewhere/1/9/9")
    assert [one.slice for one in second] == [jobs[2].slice]
    [job] = second[0].jobs
    taken = database.write(lambda session: slices.claim(session, pairs[2][0], 1, FAR, LEASE))
    assert taken is None, "it is leased"
    assert (job.id, job.endpoint, job.wait, second[0].input_price) == (jobs[2].job, "chat/completions", 0.0, 1)
    truth.check(database)


def test_a_given_back_job_is_claimed_by_its_new_epoch_and_with_its_wait(database: Database) -> None:
    one, two = create(database, new("a"), new("b"))
    [taken] = claim(database, [(one.slice or 0, 0)])
    waits = ((one.job, 30.0, 2),)
    database.write(lambda session: slices.release(session, taken.slice, taken.epoch, wait=30.0, waits=waits))
    again = claim(database, [(one.slice or 0, 1), (two.slice or 0, 0), (one.slice or 0, 0)])
    assert [(found.slice, found.epoch) for found in again] == [(one.slice, 2), (two.slice, 1)]
    [job] = again[0].jobs
    assert 20 < job.wait <= 30 and job.attempts == 2
    assert {row.state for row in grist.all_of(database, SLICE)} == {SliceState.LEASED}


def test_only_a_short_body_comes_with_the_claim(database: Database) -> None:
    long = b"x" * (held_claims.SHORT_BODY + 1)
    jobs = create(database, new("a"), new("b", body=long))
    found = claim(database, [(job.slice or 0, 0) for job in jobs])
    assert [one.body for one in found] == [BODY, None]
    with database.read() as session:
        assert held.body(session, jobs[1].number) == long


def test_a_cancelled_job_has_nothing_to_call(database: Database) -> None:
    [job] = create(database)
    database.write(lambda session: held.cancel(session, "local", job.id))
    grist.settle(database, job.number)
    assert [one.jobs for one in claim(database, [(job.slice or 0, 0)])] in ([], [()])
    assert claim(database, []) == []
