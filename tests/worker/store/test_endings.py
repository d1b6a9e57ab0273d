import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests import grist, truth
from tests.grist import Worker
from worker import clock
from worker.database import Database
from worker.states import BatchStatus, JobState, Outcome, SliceState
from worker.store import batches, dispatching, endings
from worker.store.slices import Claim
from worker.tables import RESULT, Event

EVENTS = Event.__table__  # type: ignore[attr-defined]


def begun(database: Database, worker: Worker) -> tuple[int, Claim]:
    """A batch of three slices: one done, one at work, one ready."""
    number = grist.add(database, 2, 2, 2)
    first, second, _ = grist.slices_of(database, number)
    done = worker.begin(first.id)
    worker.record(grist.end(done, done.jobs[0]), grist.end(done, done.jobs[1], Outcome.FAILED))
    return number, worker.begin(second.id)


def cancel(database: Database, number: int) -> None:
    id = grist.batch(database, number).id
    database.write(lambda session: batches.request_cancel(session, "local", id))


def test_a_cancel_ends_lines_without_a_lease_and_waits_for_the_others(database: Database, worker: Worker) -> None:
    number, claim = begun(database, worker)
    cancel(database, number)
    assert grist.settle(database, number) is None
    assert grist.batch(database, number).status == "cancelling"
    assert grist.states_of(database, number)[2:] == [JobState.PENDING] * 2 + [JobState.CANCELLED] * 2
    truth.check(database)
    worker.record(grist.end(claim, claim.jobs[0]), grist.end(claim, claim.jobs[1], Outcome.RETRY))
    worker.release(claim)
    assert grist.settle(database, number) == "cancelled"
    row = grist.batch(database, number)
    assert (row.completed, row.failed) == (2, 4) and row.cancelled_at is not None
    truth.check(database)
    truth.lines_at_rest(database, number, [f"line-{i}" for i in range(1, 7)])


@pytest.mark.parametrize(("reason", "code"), [("cancel", "batch_cancelled"), ("expire", "batch_expired")])
def test_a_stopped_line_says_why(database: Database, reason: str, code: str) -> None:
    number = grist.add(database, 1)
    grist.stop(database, number, reason)
    grist.settle(database, number)
    [row] = grist.all_of(database, RESULT)
    line = json.loads(row.line)
    assert (line["custom_id"], line["response"], line["error"]["code"]) == ("line-1", None, code)
    assert grist.job(database, number, 1).error_code == code


def test_many_lines_end_in_several_transactions(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endings, "MOST_JOBS", 4)
    number = grist.add(database, 3, 3, 3)
    grist.stop(database, number)
    counts = []
    while count := database.write(lambda session: endings.stop_lines(session, number)):
        counts.append(count)
        truth.check(database)
    assert counts == [4, 4, 1]
    assert grist.settle(database, number) == "cancelled"


def test_a_published_slice_that_is_claimed_too_late_is_done(database: Database, worker: Worker) -> None:
    number = grist.add(database, 1)
    [slice] = grist.slices_of(database, number)
    grist.stop(database, number)
    grist.settle(database, number)
    assert worker.try_claim(slice.id) is None


def late(database: Database, number: int, **columns: object) -> bool:
    grist.change(database, number, expires_at=clock.now() - 1, **columns)
    return database.write(lambda session: endings.expire(session, number))


def test_a_window_that_has_passed_stops_the_batch_once(database: Database) -> None:
    number = grist.add(database, 1)
    assert not database.write(lambda session: endings.expire(session, number))
    assert late(database, number)
    assert not late(database, number)
    assert grist.batch(database, number).stop == "expire"
    assert grist.settle(database, number) == "expired"
    truth.check(database)
    truth.lines_at_rest(database, number, ["line-1"])


def test_without_a_window_nothing_expires(database: Database) -> None:
    number = grist.add(database, 1, expires_at=None)
    assert not database.write(lambda session: endings.expire(session, number))


def test_blocked_time_does_not_count(database: Database) -> None:
    number = grist.add(database, 1)
    assert not late(database, number, blocked_since=clock.now() - 3_600)
    database.write(lambda session: dispatching.mark_blocked(session, []))
    row = grist.batch(database, number)
    assert row.blocked_since is None and row.expires_at is not None
    assert 3_590 < row.expires_at - database.now() < 3_610
    assert not database.write(lambda session: endings.expire(session, number))


def test_a_batch_that_ended_in_time_after_all_is_completed(database: Database, worker: Worker) -> None:
    number = grist.add(database, 2)
    [slice] = grist.slices_of(database, number)
    claim = worker.begin(slice.id)
    assert late(database, number)
    assert grist.settle(database, number) is None
    worker.record(*(grist.end(claim, job) for job in claim.jobs))
    assert grist.settle(database, number) == "completed"
    truth.check(database)


def test_an_expiring_batch_may_still_be_cancelled(database: Database, worker: Worker) -> None:
    number, claim = begun(database, worker)
    assert late(database, number)
    grist.settle(database, number)
    cancel(database, number)
    worker.release(claim)
    assert grist.settle(database, number) == "cancelled"
    truth.check(database)


def test_a_batch_with_open_lines_is_not_final(database: Database) -> None:
    number = grist.add(database, 1)
    assert database.write(lambda session: endings.finalize(session, number)) is None
    assert grist.batch(database, number).status == "in_progress"


def test_two_leaders_finalize_once(database: Database, worker: Worker) -> None:
    number = grist.add(database, 1)
    claim = worker.begin(grist.slices_of(database, number)[0].id)
    worker.record(grist.end(claim, claim.jobs[0]))
    with ThreadPoolExecutor(4) as threads:
        ends = list(threads.map(lambda _: database.write(lambda session: endings.finalize(session, number)), range(8)))
    assert [end for end in ends if end] == [BatchStatus.COMPLETED]
    [event] = grist.all_of(database, EVENTS)
    assert (event.batch, event.generation, event.type) == (number, 1, "batch.completed")
    row = grist.batch(database, number)
    assert row.completed_at == row.finalizing_at == event.created_at
    truth.check(database)


def test_a_batch_of_bad_lines_only_completes(database: Database) -> None:
    number = grist.add(database, bad=3)
    assert grist.settle(database, number) == "completed"
    assert grist.batch(database, number).failed == 3
    truth.check(database)
    truth.lines_at_rest(database, number, ["line-1", "line-2", "line-3"])


def test_a_stop_of_a_batch_at_rest_writes_nothing(database: Database) -> None:
    number = grist.add(database, 1)
    grist.stop(database, number)
    grist.settle(database, number)
    assert database.write(lambda session: endings.stop_lines(session, number)) == 0
    assert database.write(lambda session: endings.finalize(session, number)) is None
    assert len(grist.slices_of(database, number, SliceState.DONE)) == 1


@pytest.mark.parametrize(("reason", "type"), [("cancel", "canceled"), ("expire", "expired")])
def test_stopped_lines_of_a_message_batch_are_in_its_format(database: Database, reason: str, type: str) -> None:
    number = grist.add(database, 1, kind="messages")
    grist.stop(database, number, reason)
    grist.settle(database, number)
    [row] = grist.all_of(database, RESULT, RESULT.c.batch == number)
    assert json.loads(row.line) == {"custom_id": "line-1", "result": {"type": type}}


def test_a_claim_knows_the_surface_of_its_batch(database: Database, worker: Worker) -> None:
    number = grist.add(database, 1, kind="messages")
    assert worker.claim(grist.slices_of(database, number)[0].id).kind == "messages"
