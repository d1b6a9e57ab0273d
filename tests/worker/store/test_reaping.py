from collections.abc import Callable

import pytest
from sqlmodel import Session

from tests import grist, truth
from tests.grist import Worker
from worker.database import Database
from worker.states import JobState, Outcome, SliceState
from worker.store import dispatching, due, processes, reaping, slices
from worker.tables import PROCESS


def crash(database: Database, slice: int) -> int | None:
    epoch = grist.slice_of(database, slice).epoch
    return database.write(lambda session: reaping.take(session, slice, epoch, crashed=True))


def expire(database: Database, slice: int) -> int | None:
    grist.late(database, slice)
    epoch = grist.slice_of(database, slice).epoch
    return database.write(lambda session: reaping.take(session, slice, epoch, crashed=False))


def one(database: Database, size: int = 3) -> tuple[int, int]:
    number = grist.add(database, size)
    return number, grist.slices_of(database, number)[0].id


def test_what_may_be_repeated_is_what_was_started_and_not_answered(database: Database, worker: Worker) -> None:
    number, slice = one(database, 9)
    claim = worker.claim(slice)
    worker.start(claim, *claim.jobs[:6], cost=3)
    worker.record(
        grist.end(claim, claim.jobs[0], reserved=3),
        grist.end(claim, claim.jobs[1], Outcome.FAILED, reserved=3),
        grist.end(claim, claim.jobs[2], Outcome.RETRY, reserved=3),
    )
    assert crash(database, slice) == 3
    row, left = grist.batch(database, number), grist.slice_of(database, slice)
    assert (row.repeats_at_most, row.reserved, row.open) == (3, 0, 7)
    assert (left.state, left.started, left.crashes, left.first_line) == (SliceState.READY, "", 1, 3)
    truth.check(database)


def test_a_crash_before_any_call_repeats_nothing_and_suspects_nobody(database: Database, worker: Worker) -> None:
    number, slice = one(database)
    worker.claim(slice)
    assert crash(database, slice) == 0
    assert grist.slice_of(database, slice).crashes == 0
    assert grist.batch(database, number).repeats_at_most == 0


def test_a_late_owner_is_no_crash(database: Database, worker: Worker) -> None:
    number, slice = one(database, 2)
    for _ in range(5):
        worker.begin(slice)
        assert expire(database, slice) == 2
    row = grist.slice_of(database, slice)
    assert (row.crashes, row.state, row.alone) == (0, SliceState.READY, False)
    assert grist.batch(database, number).repeats_at_most == 10
    truth.check(database)


def test_a_lease_that_has_moved_on_is_not_taken(database: Database, worker: Worker, other: Worker) -> None:
    _, slice = one(database)
    first = worker.begin(slice)
    worker.release(first)
    other.begin(slice)
    assert database.write(lambda session: reaping.take(session, slice, first.epoch, crashed=True)) is None
    assert grist.slice_of(database, slice).lease_owner == other.name


def test_a_lease_renewed_at_the_last_moment_is_not_taken(database: Database, worker: Worker) -> None:
    _, slice = one(database)
    worker.begin(slice)
    grist.late(database, slice)
    with database.read() as session:
        [seen] = reaping.leased(session)
    assert seen.expired
    database.write(lambda session: slices.renew(session, worker.name, 60.0, {slice}))
    assert database.write(lambda session: reaping.take(session, slice, seen.epoch, crashed=False)) is None
    assert grist.slice_of(database, slice).lease_owner == worker.name


def test_leases_are_listed_with_their_owner(database: Database, worker: Worker) -> None:
    number, slice = one(database)
    worker.claim(slice)
    with database.read() as session:
        [row] = reaping.leased(session)
    assert (row.id, row.epoch, row.batch, row.lease_owner, bool(row.expired)) == (slice, 1, number, worker.name, False)


def test_a_killer_among_many_is_found_and_nobody_else_suffers(database: Database, worker: Worker) -> None:
    """Line 17 kills every worker that calls it."""
    number, _ = one(database, 40)
    crashes = 0
    while ready := grist.slices_of(database, number, SliceState.READY):
        claim = worker.begin(ready[0].id)
        killers = [job for job in claim.jobs if job.custom_id == "line-17"]
        if killers:
            crashes += 1
            crash(database, claim.slice)
        else:
            worker.record(*(grist.end(claim, job) for job in claim.jobs))
        truth.check(database)
        assert crashes < 20
    row, killer = grist.batch(database, number), grist.job(database, number, 17)
    assert (row.completed, row.failed, row.open) == (39, 1, 0)
    assert (killer.state, killer.error_code) == (JobState.FAILED, "worker_crashed")
    assert crashes == 2 + 1 + 3


def test_after_two_crashes_those_in_flight_leave_in_tens_and_the_rest_stays(database: Database, worker: Worker) -> None:
    number, slice = one(database, 60)
    for _ in range(2):
        claim = worker.claim(slice)
        worker.start(claim, *claim.jobs[:25])
        assert crash(database, slice) == 25
    rows = grist.slices_of(database, number)
    assert sorted(row.open for row in rows) == [5, 10, 10, 35]
    assert {row.crashes for row in rows if row.id != slice} == {1}
    assert grist.slice_of(database, slice).first_line == 26
    assert grist.batch(database, number).repeats_at_most == 50
    truth.check(database)


def test_a_group_that_crashes_again_is_taken_apart(database: Database, worker: Worker) -> None:
    number, slice = one(database, 4)
    for _ in range(2):
        worker.begin(slice)
        crash(database, slice)
    rows = grist.slices_of(database, number, SliceState.READY)
    assert [(row.open, row.alone, row.crashes) for row in rows] == [(1, True, 0)] * 4
    assert grist.slice_of(database, slice).state == SliceState.DONE
    truth.check(database)


def test_suspects_are_not_put_together_again(database: Database, worker: Worker) -> None:
    """Merged, they would crash together for ever."""
    number, slice = one(database, 30)
    for _ in range(2):
        worker.begin(slice)
        crash(database, slice)
    before = grist.slices_of(database, number)
    suspects = [row.id for row in before if row.state == SliceState.READY]
    with database.read() as session:
        rows = dispatching.ready(session, number, [(grist.ROUTE, "")], None, 100)
    assert [(row.id, bool(row.suspected)) for row in rows] == [(id, True) for id in suspects]
    database.write(lambda session: dispatching.merge(session, number, suspects))
    assert grist.slices_of(database, number) == before


def test_only_three_crashes_alone_condemn_a_line(database: Database, worker: Worker) -> None:
    number, slice = one(database, 1)
    for _ in range(2):
        worker.begin(slice)
        crash(database, slice)
    [alone] = grist.slices_of(database, number, SliceState.READY)
    for _ in range(2):
        worker.begin(alone.id)
        crash(database, alone.id)
        assert grist.job(database, number, 1).state == JobState.PENDING
    worker.begin(alone.id)
    crash(database, alone.id)
    assert grist.job(database, number, 1).error_code == "worker_crashed"
    with database.read() as session:
        assert [row.number for row in due.batches(session)] == [number], "its end is due at once"
    assert grist.settle(database, number) == "completed"
    truth.check(database)
    truth.lines_at_rest(database, number, ["line-1"])


def test_a_success_that_arrives_after_the_verdict_replaces_it(database: Database, worker: Worker) -> None:
    number, _ = one(database, 1)
    claim = None
    while ready := grist.slices_of(database, number, SliceState.READY):
        claim = worker.begin(ready[0].id)
        crash(database, claim.slice)
    assert claim is not None
    worker.record(grist.end(claim, claim.jobs[0]))
    assert grist.batch(database, number).completed == 1
    truth.check(database)


def test_the_dead_are_noted_once(database: Database) -> None:
    row = {
        "owner": "operator", "name": "a", "queues": [], "slots": 1, "started_at": 1.0, "seen_at": 1.0
    }  # fmt: skip
    database.write(lambda session: session.connection().execute(PROCESS.insert().values(id="b/n/1/1", **row)))
    database.write(lambda session: reaping.forget_dead(session, ["b/n/1/1", "b/n/2/2"]))
    [dead] = grist.all_of(database, PROCESS)
    assert dead.stopped_at is not None
    database.write(lambda session: reaping.forget_dead(session, ["b/n/1/1"]))
    assert grist.all_of(database, PROCESS) == [dead]


@pytest.mark.parametrize(
    "end",
    [
        lambda session: reaping.forget_dead(session, ["b/n/1/1"]),
        lambda session: processes.leave(session, "b/n/1/1"),
    ],
    ids=["killed", "stopped"],
)
def test_what_a_process_may_have_heard_before_its_end_is_rung_again_at_once(
    database: Database, end: Callable[[Session], None]
) -> None:
    _, slice = one(database)
    epoch = database.write(lambda session: slices.publish(session, slice, "simulator"))
    with database.read() as session:
        assert list(dispatching.unheard(session)) == []
    database.write(end)
    with database.read() as session:
        assert list(dispatching.unheard(session)) == [slice]
    [rung] = database.write(lambda session: dispatching.ring_again(session, [slice]))
    assert (rung.id, rung.epoch) == (slice, epoch)
    with database.read() as session:
        assert list(dispatching.unheard(session)) == []


def test_a_lease_of_a_slice_that_was_erased_is_not_taken(database: Database) -> None:
    assert database.write(lambda session: reaping.take(session, 77, 1, crashed=True)) is None
