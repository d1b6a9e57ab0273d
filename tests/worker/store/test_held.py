"""Held jobs: whole from their first transaction, at rest with their answer, found again only by whom they belong to."""

import pytest
from sqlmodel import Session

from tests import grist, truth
from tests.grist import FAR, LEASE
from worker import output_line, owner
from worker.database import Database
from worker.states import JobState, Kind, Outcome, SliceState
from worker.store import batches, dispatching, held, recording, slices
from worker.store.batches import AtRest
from worker.store.held import Held, NewHeld
from worker.store.slices import Claim
from worker.tables import EVENT

BODY = b'{"model": "mill/flour", "messages": []}'


def new(fingerprint: str = "one", holder: str | None = FAR, **changes: object) -> NewHeld:
    values = {
        "owner": "local",
        "api_key": None,
        "url": "/v1/chat/completions",
        "body": BODY,
        "job": grist.new_job(1),
        "prices": (1, 2),
        "fingerprint": fingerprint,
        "window": "24h",
        "window_seconds": 86_400.0,
        "metadata": {"for": "test"},
        "holder": holder,
    }
    return NewHeld(**{**values, **changes})  # type: ignore[arg-type]


def create(database: Database, *news: NewHeld) -> list[Held]:
    return database.write(lambda session: held.create(session, news or [new()]))


def claim(database: Database, job: Held) -> Claim:
    assert job.slice is not None
    slice = job.slice
    found = database.write(lambda session: slices.claim(session, slice, 0, FAR, LEASE))
    assert found is not None
    return found


def answer(database: Database, job: Held, outcome: Outcome = Outcome.SUCCEEDED) -> set[int]:
    """Call it; the slices that are done with it."""
    taken = claim(database, job)
    ends, starts = [grist.end(taken, taken.jobs[0], outcome)], [grist.start(taken)]
    database.write(lambda session: recording.record(session, FAR, (), starts))
    return database.write(lambda session: recording.record(session, FAR, ends, ())).done


def test_a_held_job_can_be_claimed_at_once(database: Database) -> None:
    first, second = create(database, new(), new("two"))
    taken = claim(database, first)
    assert (taken.kind, taken.batch_id, [one.id for one in taken.jobs]) == (Kind.HELD, first.id, [first.job])
    with database.read() as session:
        assert held.body(session, second.number) == BODY
        assert dispatching.running(session) == [] and dispatching.outside(session) == []
        assert batches.page(session, "local", limit=10) == []
        assert held.page(session, "local", limit=10) == [second.number, first.number]
    truth.check(database)


@pytest.mark.parametrize("outcome, state", [(Outcome.SUCCEEDED, JobState.SUCCEEDED), (Outcome.FAILED, JobState.FAILED)])
def test_it_is_at_rest_with_its_answer_and_nobody_is_told(
    database: Database, outcome: Outcome, state: JobState
) -> None:
    [job] = create(database)
    assert answer(database, job, outcome) == {job.slice}
    row = grist.batch(database, job.number)
    assert (row.status, row.open, row.due_at) == ("completed", 0, None) and row.completed_at
    with database.read() as session:
        line = held.answers(session, [job.job, 1])[job.job]
        [facts] = held.facts(session, [job.number], with_answers=True)
    assert (facts.state, facts.answer, facts.route) == (state, line, grist.ROUTE)
    assert output_line.read(line).status_code == (200 if state is JobState.SUCCEEDED else 400)
    assert grist.all_of(database, EVENT) == []
    truth.check(database)


def test_a_slice_given_back_is_dispatched_before_and_apart_from_batches(database: Database) -> None:
    [job] = create(database)
    taken = claim(database, job)
    database.write(lambda session: slices.release(session, taken.slice, taken.epoch, wait=None))
    with database.read() as session:
        [row] = dispatching.held(session)
    assert (row.id, row.batch, row.route, bool(row.due)) == (job.slice, job.number, grist.ROUTE, True)
    epoch = database.write(lambda session: slices.publish(session, row.id, None))
    [again] = database.write(lambda session: dispatching.ring_again(session, [row.id]))
    assert (again.provider, again.epoch) == (None, epoch)


def test_a_cancelled_job_has_a_line_that_says_so(database: Database) -> None:
    [job] = create(database)
    database.write(lambda session: held.cancel(session, "local", job.id))
    assert grist.settle(database, job.number) == "cancelled"
    with database.read() as session:
        said = output_line.read(held.answers(session, [job.job])[job.job])
    assert said.code == "batch_cancelled"
    with pytest.raises(AtRest):
        database.write(lambda session: held.cancel(session, "local", job.id))
    assert grist.slices_of(database, job.number, SliceState.DONE)
    truth.check(database)


def test_another_owner_finds_nothing(database: Database) -> None:
    [job] = create(database)
    with database.read() as session:
        assert held.find(session, "local", job.id) == Held(number=job.number, id=job.id)
        assert held.find(session, "other", job.id) is None and held.page(session, "other", limit=9) == []
    assert database.write(lambda session: held.cancel(session, "other", job.id)) is None


def forsaken(database: Database, fingerprint: str = "one", who: str = "local") -> Held | None:
    def find(session: Session) -> Held | None:
        return held.forsaken(session, who, fingerprint, owner.myself())

    return database.write(find)


def test_only_a_job_whose_client_went_away_is_taken_over_and_only_once(database: Database) -> None:
    waited_for, left = create(database, new(), new())
    assert forsaken(database) is None, "both are still waited for"
    database.write(lambda session: held.abandon(session, [left.number]))
    assert forsaken(database, "two") is None and forsaken(database, who="other") is None
    found = forsaken(database)
    assert found is not None and found.number == left.number
    assert forsaken(database) is None, "it has a new client"
    database.write(lambda session: held.abandon(session, [waited_for.number]))
    database.write(lambda session: held.deliver(session, [waited_for.number]))
    assert forsaken(database) is None, "its answer was received"


def test_a_job_whose_server_died_is_taken_over(database: Database) -> None:
    boot, namespace, pid, _ = owner.myself().split("/")
    [job] = create(database, new(holder=f"{boot}/{namespace}/{pid}/1"))
    found = forsaken(database)
    assert found is not None and found.id == job.id


def test_jobs_that_nobody_waits_for_are_never_taken_over(database: Database) -> None:
    [job] = create(database, new(holder=None))
    database.write(lambda session: held.abandon(session, [job.number]))
    assert forsaken(database) is None
