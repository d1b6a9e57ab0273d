from collections.abc import Callable
from typing import Any

import pytest

from tests import grist, truth
from tests.grist import ROUTE, Worker
from worker.database import Database
from worker.states import JobState, Outcome, SliceState
from worker.store import batches, reaping
from worker.store.calls import Granted
from worker.store.slices import Claim
from worker.tables import ATTEMPT, RESULT

MILLION = 1_000_000


def add(database: Database, *sizes: int, **columns: Any) -> tuple[int, list[int]]:
    number = grist.add(database, *sizes, **columns)
    return number, [row.id for row in grist.slices_of(database, number)]


def take_lease(database: Database, slice: int, *, crashed: bool = False) -> int | None:
    grist.late(database, slice)
    epoch = grist.slice_of(database, slice).epoch
    return database.write(lambda session: reaping.take(session, slice, epoch, crashed=crashed))


def result_of(database: Database, number: int, line: int) -> Any:
    rows = grist.all_of(database, RESULT, RESULT.c.job == grist.job(database, number, line).id)
    return rows[0] if rows else None


def test_a_success_is_stored_with_all_that_is_known_of_it(database: Database, worker: Worker) -> None:
    number, [slice] = add(database, 2)
    claim = worker.begin(slice, cost=40)
    end = grist.end(
        claim,
        claim.jobs[0],
        reserved=40,
        status_code=200,
        request_id="req_1",
        model="flour-2026",
        fingerprint="fp",
        ending="truncated",
        cost=33,
        cost_source="config",
    )
    worker.record(end)
    row, [attempt] = grist.batch(database, number), grist.all_of(database, ATTEMPT)
    assert (row.completed, row.open, row.cost, row.reserved, row.seq) == (1, 1, 33, 40, 1)
    assert (attempt.id, attempt.model, attempt.cost, attempt.cost_source) == (end.attempt, "flour-2026", 33, "config")
    assert (attempt.input_tokens, attempt.cached_tokens, attempt.output_tokens) == (11, 3, 7)
    assert grist.tally(database, number).truncated == 1
    assert bytes(result_of(database, number, 1).line) == end.line
    assert grist.slice_of(database, slice).started == "2"
    truth.check(database)


@pytest.mark.parametrize("ending", ["truncated", "filtered", "refused", "empty"])
def test_every_ending_is_counted(database: Database, worker: Worker, ending: str) -> None:
    number, [slice] = add(database, 1)
    claim = worker.begin(slice)
    worker.record(grist.end(claim, claim.jobs[0], ending=ending))
    assert getattr(grist.tally(database, number), ending) == 1


def test_an_error_is_a_result(database: Database, worker: Worker) -> None:
    number, [slice] = add(database, 1)
    claim = worker.begin(slice)
    worker.record(grist.end(claim, claim.jobs[0], Outcome.FAILED))
    job = grist.job(database, number, 1)
    assert (job.state, job.error_code) == (JobState.FAILED, "bad_request")
    assert grist.batch(database, number).failed == 1
    assert grist.slice_of(database, slice).state == SliceState.DONE
    truth.check(database)


@pytest.mark.parametrize(("outcome", "counter"), [(Outcome.RETRY, "retries"), (Outcome.RATE_LIMITED, "rate_limited")])
def test_a_call_to_be_repeated_is_an_attempt_and_no_result(
    database: Database, worker: Worker, outcome: Outcome, counter: str
) -> None:
    number, [slice] = add(database, 1)
    claim = worker.begin(slice, cost=9)
    worker.record(grist.end(claim, claim.jobs[0], outcome, reserved=9))
    row = grist.batch(database, number)
    assert (getattr(row, counter), row.open, row.attempts, row.seq, row.reserved) == (1, 1, 1, 0, 0)
    assert getattr(grist.tally(database, number), counter) == 1
    assert grist.job(database, number, 1).state == JobState.PENDING
    assert grist.slice_of(database, slice).started == ""
    truth.check(database)


def test_a_call_that_we_ended_ourselves_may_be_repeated_and_its_cost_is_unknown(
    database: Database, worker: Worker
) -> None:
    number, [slice] = add(database, 1)
    claim = worker.begin(slice)
    worker.record(grist.end(claim, claim.jobs[0], Outcome.ABANDONED, cost=None))
    row = grist.batch(database, number)
    assert (row.repeats_at_most, row.unknown_cost, row.cost) == (1, 1, 0)
    truth.check(database)


def test_a_call_is_not_counted_twice_as_repeated(database: Database, worker: Worker) -> None:
    number, [slice] = add(database, 1)
    claim = worker.begin(slice)
    assert take_lease(database, slice) == 1
    worker.record(grist.end(claim, claim.jobs[0], Outcome.ABANDONED, cost=None))
    assert grist.batch(database, number).repeats_at_most == 1


def test_an_unknown_cost_is_not_zero(database: Database, worker: Worker) -> None:
    number, [slice] = add(database, 2)
    claim = worker.begin(slice)
    worker.record(grist.end(claim, claim.jobs[0], cost=None), grist.end(claim, claim.jobs[1], cost=0))
    row = grist.batch(database, number)
    assert (row.cost, row.unknown_cost, grist.tally(database, number).unknown_cost) == (0, 1, 1)
    truth.check(database)


def moved_epoch(database: Database, slice: int, worker: Worker, other: Worker) -> None:
    take_lease(database, slice)
    worker.claim(slice)


def moved_holder(database: Database, slice: int, worker: Worker, other: Worker) -> None:
    take_lease(database, slice)
    other.claim(slice)


def moved_to_nobody(database: Database, slice: int, worker: Worker, other: Worker) -> None:
    take_lease(database, slice)


moves = pytest.mark.parametrize("move", [moved_epoch, moved_holder, moved_to_nobody])
Move = Callable[[Database, int, Worker, Worker], None]


@moves
def test_a_success_is_kept_wherever_the_lease_went(
    database: Database, worker: Worker, other: Worker, move: Move
) -> None:
    number, [slice] = add(database, 2)
    claim = worker.begin(slice, cost=5)
    move(database, slice, worker, other)
    before = grist.slice_of(database, slice)
    worker.record(grist.end(claim, claim.jobs[0], reserved=5))
    row, after = grist.batch(database, number), grist.slice_of(database, slice)
    assert (row.completed, row.open, after.open) == (1, 1, 1)
    assert (after.epoch, after.lease_owner, after.state) == (before.epoch, before.lease_owner, before.state)
    truth.check(database)


@moves
@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.RETRY, Outcome.RATE_LIMITED, Outcome.PAUSED])
def test_anything_else_is_only_an_attempt_once_the_lease_has_moved(
    database: Database, worker: Worker, other: Worker, move: Move, outcome: Outcome
) -> None:
    number, [slice] = add(database, 1)
    claim = worker.begin(slice, cost=5)
    move(database, slice, worker, other)
    worker.record(grist.end(claim, claim.jobs[0], outcome, reserved=5))
    row = grist.batch(database, number)
    assert (row.failed, row.open, row.attempts) == (0, 1, 1)
    truth.check(database)


def test_the_first_success_wins(database: Database, worker: Worker, other: Worker) -> None:
    number, [slice] = add(database, 1)
    first = worker.begin(slice)
    take_lease(database, slice)
    second = other.begin(slice)
    won = grist.end(second, second.jobs[0], line=b'{"custom_id":"line-1","n":2}\n')
    other.record(won)
    worker.record(grist.end(first, first.jobs[0], line=b'{"custom_id":"line-1","n":1}\n'))
    row = grist.batch(database, number)
    assert bytes(result_of(database, number, 1).line) == won.line
    assert (row.completed, row.attempts, row.cost) == (1, 2, 50)
    truth.check(database)


def test_a_success_replaces_the_error_of_another_lease(database: Database, worker: Worker, other: Worker) -> None:
    number, [slice] = add(database, 2)
    first = worker.begin(slice)
    take_lease(database, slice)
    second = other.begin(slice)
    other.record(grist.end(second, second.jobs[0], Outcome.FAILED))
    assert grist.batch(database, number).failed == 1
    worker.record(grist.end(first, first.jobs[0]))
    row, tally = grist.batch(database, number), grist.tally(database, number)
    assert (row.completed, row.failed, row.open, row.error_bytes, row.seq) == (1, 0, 1, 0, 2)
    assert (tally.completed, tally.failed) == (1, 0)
    assert result_of(database, number, 1).kind == "output"
    assert grist.job(database, number, 1).error_code is None
    truth.check(database)


def test_both_may_come_in_one_transaction(database: Database, worker: Worker) -> None:
    """The same process has lost the slice and claimed it again, and both of its calls end at once."""
    number, [slice] = add(database, 1)
    first = worker.begin(slice)
    take_lease(database, slice)
    second = worker.begin(slice)
    worker.record(grist.end(second, second.jobs[0], Outcome.FAILED), grist.end(first, first.jobs[0]))
    assert grist.batch(database, number).completed == 1
    truth.check(database)


def test_a_success_replaces_the_row_of_a_cancelled_line(database: Database, worker: Worker) -> None:
    number, [slice, busy] = add(database, 1, 1)
    claim = worker.begin(slice)
    worker.begin(busy)
    take_lease(database, slice)
    grist.stop(database, number)
    assert grist.settle(database, number) is None
    assert grist.job(database, number, 1).state == JobState.CANCELLED
    worker.record(grist.end(claim, claim.jobs[0]))
    assert grist.job(database, number, 1).state == JobState.SUCCEEDED
    truth.check(database)


def test_after_the_end_a_paid_result_is_an_attempt_and_changes_no_byte(database: Database, worker: Worker) -> None:
    number, [slice] = add(database, 1)
    claim = worker.begin(slice)
    take_lease(database, slice)
    grist.stop(database, number)
    assert grist.settle(database, number) == "cancelled"
    before = result_of(database, number, 1)
    worker.record(grist.end(claim, claim.jobs[0]))
    row = grist.batch(database, number)
    assert result_of(database, number, 1) == before
    assert (row.completed, row.failed, row.attempts, row.cost, row.due_at) == (0, 1, 1, 25, None)
    truth.check(database)


def test_a_late_success_in_a_new_generation_leaves_the_old_file_its_row(
    database: Database, worker: Worker, other: Worker
) -> None:
    """The line has not been reset yet when the answer of its first call comes after all."""
    number, [slice] = add(database, 2)
    claim = worker.begin(slice)
    take_lease(database, slice)
    second = other.begin(slice)
    other.record(grist.end(second, second.jobs[0], Outcome.FAILED), grist.end(second, second.jobs[1]))
    assert grist.settle(database, number) == "completed"
    grist.change(database, number, status="in_progress", generation=2)
    worker.record(grist.end(claim, claim.jobs[0]))
    job = grist.job(database, number, 1)
    old, new = grist.all_of(database, RESULT, RESULT.c.job == job.id)
    assert (old.generation, old.kind, old.superseded_in) == (1, "error", 2)
    assert (new.generation, new.kind, new.superseded_in) == (2, "output", None)
    assert (job.state, job.generation, grist.batch(database, number).failed) == (JobState.SUCCEEDED, 2, 0)
    truth.check(database)


@pytest.mark.parametrize(
    "outcome", [Outcome.SUCCEEDED, Outcome.FAILED, Outcome.RETRY, Outcome.RATE_LIMITED, Outcome.ABANDONED]
)
def test_storing_the_same_ends_again_changes_nothing(database: Database, worker: Worker, outcome: Outcome) -> None:
    """The commit went through, its answer did not."""
    number, [slice] = add(database, 3)
    claim = worker.begin(slice, cost=7)
    end = grist.end(claim, claim.jobs[0], outcome, reserved=7)
    worker.record(end)
    before = everything(database, number)
    worker.record(end, again=True)
    assert everything(database, number) == before
    truth.check(database)


def test_an_end_and_the_next_start_of_a_line_may_be_stored_again_together(database: Database, worker: Worker) -> None:
    number, [slice] = add(database, 1)
    claim = worker.begin(slice, cost=7)
    ends, starts = [grist.end(claim, claim.jobs[0], Outcome.RETRY, reserved=7)], [grist.start(claim, cost=7)]
    first = worker.record(*ends, starts=starts)
    before = everything(database, number)
    assert worker.record(*ends, starts=starts, again=True).granted == first.granted
    assert everything(database, number) == before
    assert grist.batch(database, number).reserved == 7


def everything(database: Database, number: int) -> Any:
    rows = [grist.all_of(database, table) for table in (ATTEMPT, RESULT)]
    row = grist.batch(database, number).model_dump(exclude={"due_at"})
    return rows, row, grist.slices_of(database, number), grist.tally(database, number)


def test_bytes_and_sequence_follow_the_lines(database: Database, worker: Worker) -> None:
    _, [slice] = add(database, 9)
    claim = worker.begin(slice)
    kinds = [Outcome.SUCCEEDED, Outcome.FAILED, Outcome.RETRY]
    for place in range(0, 9, 3):
        worker.record(*(grist.end(claim, job, kinds[job.id % 3]) for job in claim.jobs[place : place + 3]))
    assert [row.seq for row in grist.all_of(database, RESULT, order=RESULT.c.seq)] == list(range(1, 7))
    truth.check(database)


def test_a_slice_without_open_lines_is_done_and_its_batch_due(database: Database, worker: Worker) -> None:
    number, [slice] = add(database, 2)
    claim = worker.begin(slice, cost=5)
    worker.record(grist.end(claim, claim.jobs[0], reserved=5))
    assert grist.batch(database, number).due_at is None
    worker.record(grist.end(claim, claim.jobs[1], reserved=5))
    row, done = grist.batch(database, number), grist.slice_of(database, slice)
    assert row.due_at is not None and row.reserved == 0
    assert (done.state, done.lease_owner, done.lease_until) == (SliceState.DONE, None, None)
    truth.check(database)


# Starts


def test_a_start_notes_the_lines_before_their_calls(database: Database, worker: Worker) -> None:
    number, [slice] = add(database, 3)
    claim = worker.claim(slice)
    granted = worker.start(claim, *claim.jobs[1:], cost=10)
    row = grist.slice_of(database, slice)
    assert (granted.count, granted.closed, row.started, row.reserved) == (2, False, "2,3", 20)
    assert grist.batch(database, number).reserved == 20


def test_no_call_starts_without_a_living_lease(database: Database, worker: Worker, other: Worker) -> None:
    _, [slice] = add(database, 1)
    claim = worker.claim(slice)
    assert other.start(claim).closed
    grist.late(database, slice)
    assert worker.start(claim) == Granted(0, closed=True)
    take_lease(database, slice)
    assert worker.start(claim).closed
    worker.claim(slice)
    assert worker.start(claim).closed


@pytest.mark.parametrize(
    "mark", [{"stop": "cancel"}, {"paused_at": 1.0}, {"capped_at": 1.0}, {"status": "cancelling"}, {"stop": "expire"}]
)
def test_no_call_starts_in_a_batch_that_rests(database: Database, worker: Worker, mark: dict[str, Any]) -> None:
    number, [slice] = add(database, 1)
    claim = worker.claim(slice)
    grist.change(database, number, **mark)
    recorded = worker.record(starts=[grist.start(claim)])
    view = recorded.batches[number]
    assert recorded.granted == [Granted(0, closed=True)]
    assert view.stop == ("stop" in mark) and view.held == ("paused_at" in mark or "capped_at" in mark)


def test_a_cap_counts_what_is_stored_and_what_is_reserved(database: Database, worker: Worker) -> None:
    number, [slice] = add(database, 5, max_cost=100)
    claim = worker.claim(slice)
    assert worker.start(claim, cost=40) == Granted(2, closed=False)
    assert grist.batch(database, number).capped_at is None
    worker.record(grist.end(claim, claim.jobs[0], cost=30, reserved=40))
    assert worker.start(claim, claim.jobs[2], cost=40).count == 0
    assert worker.start(claim, claim.jobs[2], cost=30).count == 1
    assert grist.batch(database, number).capped_at is None
    worker.record(
        grist.end(claim, claim.jobs[1], cost=30, reserved=40), grist.end(claim, claim.jobs[2], cost=30, reserved=30)
    )
    assert worker.start(claim, claim.jobs[3], cost=20) == Granted(0, closed=True)
    row = grist.batch(database, number)
    assert row.capped_at is not None and (row.cost, row.reserved) == (90, 0)
    truth.check(database)


def test_a_cap_holds_over_slices_and_workers(database: Database, worker: Worker, other: Worker) -> None:
    number, [one, two] = add(database, 3, 3, max_cost=100)
    first, second = worker.claim(one), other.claim(two)
    assert worker.start(first, cost=30).count == 3
    assert other.start(second, cost=30) == Granted(0, closed=False)
    take_lease(database, one)
    assert grist.batch(database, number).reserved == 0
    assert other.start(second, cost=30).count == 3
    truth.check(database)


def test_a_line_dearer_than_the_cap_caps_it_at_once(database: Database, worker: Worker) -> None:
    number, [slice] = add(database, 1, max_cost=10)
    claim = worker.claim(slice)
    assert worker.start(claim, cost=11) == Granted(0, closed=True)
    assert grist.batch(database, number).capped_at is not None


def test_a_raised_cap_lets_the_batch_go_on(database: Database, worker: Worker) -> None:
    number, [slice] = add(database, 1, max_cost=10)
    claim = worker.claim(slice)
    worker.start(claim, cost=11)
    worker.release(claim)
    id = grist.batch(database, number).id
    database.write(lambda session: batches.resume(session, "local", id, max_cost=11))
    assert worker.start(worker.claim(slice), cost=11).count == 1


def test_under_a_cap_a_model_of_unknown_price_waits(database: Database, worker: Worker) -> None:
    number, [slice] = add(database, 1, max_cost=MILLION, prices=(None, None))
    claim = worker.claim(slice)
    assert worker.start(claim) == Granted(0, closed=True)
    tally = grist.tally(database, number)
    assert tally.paused_at is not None and tally.alike_code == "unknown_cost"
    worker.release(claim)
    id = grist.batch(database, number).id
    database.write(lambda session: batches.resume(session, "local", id, allow_unknown_cost=True))
    assert worker.start(worker.claim(slice)).count == 1


def test_without_a_cap_an_unknown_price_stops_nothing(database: Database, worker: Worker) -> None:
    _, [slice] = add(database, 1, prices=(None, None))
    worker.begin(slice)


# Failing alike


def fail(worker: Worker, claim: Claim, lines: range, code: str = "bad_request") -> None:
    worker.record(*(grist.end(claim, claim.jobs[i], Outcome.FAILED, error_code=code) for i in lines))


def test_twenty_first_lines_that_fail_alike_pause_their_model(database: Database, worker: Worker) -> None:
    number, [slice] = add(database, 25)
    claim = worker.claim(slice)
    worker.start(claim, *claim.jobs[:22])
    fail(worker, claim, range(19))
    assert grist.tally(database, number).paused_at is None
    fail(worker, claim, range(19, 22))
    assert grist.tally(database, number).paused_at is not None
    assert worker.start(claim, claim.jobs[23]) == Granted(0, closed=True)


def test_another_model_of_the_batch_goes_on(database: Database, worker: Worker) -> None:
    number, [bad, good] = add(database, 20, 1, routes=(ROUTE, "mill/rye"))
    fail(worker, worker.begin(bad), range(20))
    assert grist.tally(database, number).paused_at is not None
    worker.begin(good)


@pytest.mark.parametrize("code", ["content_filter", "context_length_exceeded"])
def test_codes_that_an_evaluation_may_mean_do_not_pause(database: Database, worker: Worker, code: str) -> None:
    number, [slice] = add(database, 30)
    fail(worker, worker.begin(slice), range(30), code)
    assert grist.tally(database, number).paused_at is None


def test_one_success_or_another_code_ends_the_suspicion(database: Database, worker: Worker) -> None:
    number, [one, two] = add(database, 30, 30, routes=(ROUTE, "mill/rye"))
    first, second = worker.begin(one), worker.begin(two)
    fail(worker, first, range(10))
    worker.record(grist.end(first, first.jobs[10]))
    fail(worker, first, range(11, 30))
    fail(worker, second, range(19))
    fail(worker, second, range(19, 20), "other")
    fail(worker, second, range(20, 30))
    assert grist.tally(database, number).paused_at is None
    assert grist.tally(database, number, "mill/rye").paused_at is None


def test_a_resumed_model_does_not_pause_for_it_again(database: Database, worker: Worker) -> None:
    number, [slice] = add(database, 45)
    claim = worker.claim(slice)
    worker.start(claim, *claim.jobs[:20])
    fail(worker, claim, range(20))
    id = grist.batch(database, number).id
    database.write(lambda session: batches.resume(session, "local", id))
    assert worker.start(claim, *claim.jobs[20:]).count == 25
    fail(worker, claim, range(20, 45))
    assert grist.tally(database, number).paused_at is None
