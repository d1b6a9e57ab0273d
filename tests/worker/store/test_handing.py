"""Lines that go on with a fallback: one transaction, and whatever ends in its middle, each line is in one slice."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests import grist, truth
from tests.grist import Worker
from worker.database import Database
from worker.states import JobState, Outcome, SliceState
from worker.store import dispatching, generations, handing, reaping
from worker.store.calls import Ended
from worker.store.slices import Claim, ClaimedJob
from worker.tables import ATTEMPT

TRAIL = "context_window long"


def begin(database: Database, worker: Worker, lines: int = 4, **columns: Any) -> tuple[int, Claim]:
    number = grist.add(database, lines, allow_fallback=True, **columns)
    [slice] = grist.slices_of(database, number)
    return number, worker.begin(slice.id, cost=5)


def fell_back(claim: Claim, job: ClaimedJob, trail: str = TRAIL, **facts: Any) -> Ended:
    return grist.end(
        claim, job, Outcome.FELL_BACK, trail=trail, reserved=5, error_code="context_length_exceeded", **facts
    )


def crash(database: Database, slice: int) -> int | None:
    epoch = grist.slice_of(database, slice).epoch
    return database.write(lambda session: reaping.take(session, slice, epoch, crashed=True))


def test_lines_that_go_the_same_way_share_a_slice(database: Database, worker: Worker) -> None:
    number, claim = begin(database, worker)
    worker.record(*(fell_back(claim, job) for job in claim.jobs[:2]), fell_back(claim, claim.jobs[2], "general spare"))
    old, long, spare = grist.slices_of(database, number)
    assert [(row.trail, row.state, row.open, row.jobs, row.tokens) for row in (long, spare)] == [
        (TRAIL, SliceState.READY, 2, 2, 60),
        ("general spare", SliceState.READY, 1, 1, 30),
    ]
    assert (old.open, old.reserved, old.started) == (1, 5, "4")
    assert (long.route, long.first_line, spare.first_line) == (grist.ROUTE, 1, 3)
    batch = grist.batch(database, number)
    assert (batch.open, batch.reserved, batch.attempts, batch.retries) == (4, 5, 3, 0)
    truth.check(database)


def test_the_claim_says_who_serves_and_the_attempt_why(database: Database, worker: Worker) -> None:
    number, claim = begin(database, worker, 1)
    worker.record(fell_back(claim, claim.jobs[0]))
    [slice] = grist.slices_of(database, number, SliceState.READY)
    again = worker.begin(slice.id)
    assert (again.route, again.serving, again.provider, again.allow_fallback) == (grist.ROUTE, "long", "mill", True)
    end = grist.end(again, again.jobs[0], fallback="context_window")
    worker.record(dataclasses.replace(end, deployment="mill/long"))
    assert [(row.deployment, row.outcome, row.fallback) for row in grist.all_of(database, ATTEMPT)] == [
        (grist.ROUTE, "fell_back", None),
        ("mill/long", "succeeded", "context_window"),
    ]
    assert grist.batch(database, number).completed == grist.tally(database, number).completed == 1
    truth.check(database)


def test_no_attempt_is_spent_and_no_wait_kept(database: Database, worker: Worker) -> None:
    number, claim = begin(database, worker, 2)
    worker.record(grist.end(claim, claim.jobs[0], Outcome.RETRY))
    worker.release(claim, waits=[(claim.jobs[0].id, 500.0, 7)])
    again = worker.begin(claim.slice)
    worker.record(fell_back(again, again.jobs[0]))
    row = grist.job(database, number, 1)
    assert (row.attempts, row.not_before, row.state) == (0, None, JobState.PENDING)


def test_a_repeated_commit_moves_nothing_twice(database: Database, worker: Worker) -> None:
    number, claim = begin(database, worker)
    ends = [fell_back(claim, job) for job in claim.jobs[:3]]
    worker.record(*ends)
    worker.record(*ends, again=True)
    assert [row.open for row in grist.slices_of(database, number)] == [1, 3]
    truth.check(database)


def test_the_last_line_ends_its_slice(database: Database, worker: Worker) -> None:
    number, claim = begin(database, worker, 2)
    assert worker.record(*(fell_back(claim, job) for job in claim.jobs)).done == {claim.slice}
    assert [row.state for row in grist.slices_of(database, number)] == [SliceState.DONE, SliceState.READY]
    truth.check(database)


def test_who_has_lost_the_lease_moves_nothing(database: Database, worker: Worker, other: Worker) -> None:
    number, claim = begin(database, worker, 1)
    crash(database, claim.slice)
    later = other.claim(claim.slice)
    worker.record(fell_back(claim, claim.jobs[0]))
    assert [row.trail for row in grist.slices_of(database, number)] == [""]
    assert grist.batch(database, number).attempts == 1
    other.start(later)
    other.record(grist.end(later, later.jobs[0]))
    truth.check(database)


def test_a_success_that_was_on_its_way_wins_where_its_line_is_now(
    database: Database, worker: Worker, other: Worker
) -> None:
    number, claim = begin(database, worker, 2)
    worker.record(fell_back(claim, claim.jobs[0]))
    worker.record(grist.end(claim, claim.jobs[0]))
    assert [(row.state, row.open) for row in grist.slices_of(database, number)] == [("leased", 1), ("done", 0)]
    truth.check(database)


def test_a_crash_in_the_middle_of_the_transaction_leaves_the_line_where_it_was(
    database: Database, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, claim = begin(database, worker)
    ends = [fell_back(claim, job) for job in claim.jobs[:2]]
    with monkeypatch.context() as patch:
        regroup = handing.regroup

        def die(*arguments: Any) -> int:
            regroup(*arguments)
            raise MemoryError("killed here")

        patch.setattr(handing, "regroup", die)
        with pytest.raises(MemoryError):
            worker.record(*ends)
    assert [row.open for row in grist.slices_of(database, number)] == [4]
    truth.check(database)
    assert crash(database, claim.slice) == 4
    assert grist.batch(database, number).repeats_at_most == 4


def test_after_the_commit_a_crash_repeats_nothing_of_it(database: Database, worker: Worker) -> None:
    """The first model has refused the line; only what was still in flight there may be called again."""
    number, claim = begin(database, worker)
    worker.record(*(fell_back(claim, job) for job in claim.jobs[:3]))
    assert crash(database, claim.slice) == 1
    ready = grist.slices_of(database, number, SliceState.READY)
    assert sorted((row.trail, row.open) for row in ready) == [("", 1), (TRAIL, 3)]
    assert grist.batch(database, number).repeats_at_most == 1
    truth.check(database)


def test_what_kills_workers_is_isolated_on_its_way(database: Database, worker: Worker) -> None:
    number, claim = begin(database, worker, 2)
    worker.record(*(fell_back(claim, job) for job in claim.jobs))
    [slice] = grist.slices_of(database, number, SliceState.READY)
    for _ in range(2):
        worker.begin(slice.id)
        crash(database, slice.id)
    alone = [row for row in grist.slices_of(database, number) if row.alone]
    assert [(row.trail, row.open) for row in alone] == [(TRAIL, 1), (TRAIL, 1)]
    truth.check(database)


def test_only_lines_of_one_way_are_merged(database: Database, worker: Worker) -> None:
    number, claim = begin(database, worker)
    for job, trail in zip(claim.jobs, (TRAIL, TRAIL, "general spare"), strict=False):
        worker.record(fell_back(claim, job, trail))
    ids = [row.id for row in grist.slices_of(database, number, SliceState.READY)]
    database.write(lambda session: dispatching.merge(session, number, ids))
    assert len(grist.slices_of(database, number, SliceState.READY)) == 3
    database.write(lambda session: dispatching.merge(session, number, ids[:2]))
    ready = grist.slices_of(database, number, SliceState.READY)
    assert [(row.trail, row.open) for row in ready] == [("general spare", 1), (TRAIL, 2)]
    truth.check(database)


def test_a_new_generation_begins_where_the_first_did(database: Database, worker: Worker) -> None:
    number, claim = begin(database, worker, 1)
    worker.record(fell_back(claim, claim.jobs[0]))
    [slice] = grist.slices_of(database, number, SliceState.READY)
    last = worker.begin(slice.id)
    worker.record(grist.end(last, last.jobs[0], Outcome.FAILED))
    grist.settle(database, number)
    id = grist.batch(database, number).id
    generations.retry(database, "local", id, lambda route: 100)
    [fresh] = grist.slices_of(database, number, SliceState.READY)
    assert (fresh.trail, fresh.generation) == ("", 2)
    truth.check(database)


def test_a_price_that_is_unknown_there_stops_a_limited_batch(database: Database, worker: Worker) -> None:
    number, claim = begin(database, worker, 1, max_cost=10**12)
    worker.record(fell_back(claim, claim.jobs[0]))
    [slice] = grist.slices_of(database, number, SliceState.READY)
    there = worker.claim(slice.id)
    assert there.is_limited
    asked = grist.start(there)
    [granted] = worker.record(starts=[dataclasses.replace(asked, is_unpriced=True)]).granted
    assert (granted.count, granted.closed) == (0, True)
    assert grist.tally(database, number).alike_code == "unknown_cost"


def test_many_hand_on_at_once_without_a_deadlock(database: Database, worker: Worker, other: Worker) -> None:
    """Every transaction locks batch, slice, job, in this order, and sorted."""
    number = grist.add(database, *[5] * 8, allow_fallback=True)
    claims = [
        (who, who.begin(row.id))
        for who, row in zip([worker, other] * 4, grist.slices_of(database, number), strict=True)
    ]
    with ThreadPoolExecutor(8) as threads:
        rounds = [(who, claim, place) for place in range(5) for who, claim in claims]
        list(threads.map(lambda one: one[0].record(fell_back(one[1], one[1].jobs[one[2]])), rounds))
    ready = grist.slices_of(database, number, SliceState.READY)
    assert sum(row.open for row in ready) == 40 and {row.trail for row in ready} == {TRAIL}
    truth.check(database)
