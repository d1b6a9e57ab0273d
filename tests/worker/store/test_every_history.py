"""Whatever two workers, the reaper, the owner and the closer do, in any order: the promises hold after each step."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlmodel import Session, SQLModel
from typing_extensions import override

from tests import grist, truth
from tests.grist import Worker
from worker import clock
from worker.database import Database
from worker.states import AT_REST, BATCH_MOVES, JOB_MOVES, BatchStatus, JobState, Outcome, SliceState
from worker.store import api_keys, batches, dispatching, endings, generations, purses, reaping, slices
from worker.store.calls import Ended, Start
from worker.store.slices import Claim, ClaimedJob
from worker.tables import BATCH, JOB, RESULT, SLICE

PRICE = 10
"""Estimated cost of each call."""
SIZES = ((3, 1, 2), (4, 2))
"""Lines of the slices of each batch; the second batch has a cap."""
ROUTES = ("mill/flour", "mill/rye")


@dataclass(eq=False)
class Call:
    """One call under way, or given up for lost."""

    worker: Worker
    claim: Claim
    job: ClaimedJob
    known: bool = False


@dataclass(eq=False)
class Lease:
    """A claim that its worker believes in, whether it still holds or not."""

    worker: Worker
    claim: Claim
    calls: list[Call] = field(default_factory=list)


class History(RuleBasedStateMachine):
    database: Database
    leases = Bundle("leases")
    calls = Bundle("calls")

    @initialize()
    def begin(self) -> None:
        self.workers = [Worker(self.database), Worker(self.database, "elsewhere/1/9/9")]
        self.budget = 8 * PRICE
        self.key = self.database.write(
            lambda session: api_keys.create(session, "ann", "local", budget_month=self.budget)
        )[0].id
        self.numbers = [
            grist.add(self.database, *SIZES[0], routes=ROUTES, bad=1, expires_at=None, api_key=self.key),
            grist.add(self.database, *SIZES[1], max_cost=6 * PRICE, api_key=self.key),
        ]
        self.statuses = {number: BatchStatus.IN_PROGRESS for number in self.numbers}
        self.jobs: dict[int, JobState] = {}
        self.successes: dict[int, bytes] = {}
        self.files: dict[tuple[int, int], list[Any]] = {}
        self.under_way: dict[tuple[int, int], list[Call]] = {}
        self.repeats = dict.fromkeys(self.numbers, 0)
        self.last: tuple[Worker, list[Ended], list[Start]] | None = None

    # Workers

    @rule(target=leases, worker=st.integers(0, 1), pick=st.integers(0, 9))
    def claim(self, worker: int, pick: int) -> Any:
        ready = grist.all_of(self.database, SLICE, SLICE.c.state.in_((SliceState.READY, SliceState.PUBLISHED)))
        if not ready:
            return multiple()
        claim = self.workers[worker].try_claim(ready[pick % len(ready)].id)
        assert claim is not None
        again = self.database.write(lambda session: slices.claim(session, claim.slice, claim.epoch - 1, "x", 60.0))
        assert again is None
        return Lease(self.workers[worker], claim)

    @rule(target=calls, lease=leases, picks=st.sets(st.integers(0, 9), min_size=1, max_size=4))
    def start(self, lease: Lease, picks: set[int]) -> Any:
        busy = {call.job.id for call in lease.calls}
        jobs = [job for place, job in enumerate(lease.claim.jobs) if place in picks and job.id not in busy]
        if not jobs:
            return multiple()
        asked = grist.start(lease.claim, *jobs, cost=PRICE)
        [granted] = lease.worker.record(starts=[asked]).granted
        self.last = (lease.worker, [], [asked])
        begun = [Call(lease.worker, lease.claim, job) for job in jobs[: granted.count]]
        for call in begun:
            self._note_repeat(call)
        lease.calls += begun
        return multiple(*begun)

    @rule(
        call=consumes(calls),
        outcome=st.sampled_from([*[Outcome.SUCCEEDED] * 3, *[Outcome.FAILED] * 2, Outcome.RETRY, Outcome.RATE_LIMITED]),
        cost=st.sampled_from([0, PRICE, PRICE, None]),
    )
    def end(self, call: Call, outcome: Outcome, cost: int | None) -> None:
        self._end(call, outcome, cost)

    def _end(self, call: Call, outcome: Outcome, cost: int | None) -> None:
        end = grist.end(call.claim, call.job, outcome, cost=cost, reserved=PRICE)
        slice = grist.slice_of(self.database, call.claim.slice)
        [before] = grist.all_of(self.database, JOB, JOB.c.id == call.job.id)
        call.worker.record(end)
        if outcome is not Outcome.SUCCEEDED and (slice.lease_owner, slice.epoch) != (
            call.worker.name,
            call.claim.epoch,
        ):
            assert [before] == grist.all_of(self.database, JOB, JOB.c.id == call.job.id)
        call.known = outcome is not Outcome.ABANDONED
        self.last = (call.worker, [end], [])

    @rule(lease=consumes(leases), wait=st.sampled_from([None, 0.0]))
    def give_back(self, lease: Lease, wait: float | None) -> None:
        """A worker that gives a slice back has ended its calls itself."""
        for call in lease.calls:
            if not call.known:
                self._end(call, Outcome.ABANDONED, None)
        lease.worker.release(lease.claim, wait=wait, waits=[(job.id, 0.0, 1) for job in lease.claim.jobs])

    @precondition(lambda self: self.last is not None)
    @rule()
    def commit_again(self) -> None:
        """The answer to the last commit was lost."""
        assert self.last is not None
        worker, ends, starts = self.last
        if ends:
            worker.record(*ends, starts=starts, again=True)

    # Control

    @rule(pick=st.integers(0, 9), crashed=st.booleans())
    def reap(self, pick: int, crashed: bool) -> None:
        leased = grist.all_of(self.database, SLICE, SLICE.c.state == SliceState.LEASED)
        if leased:
            row = leased[pick % len(leased)]
            grist.late(self.database, row.id)
            taken = self.database.write(lambda session: reaping.take(session, row.id, row.epoch, crashed=crashed))
            assert taken is not None

    @rule(batch=st.integers(0, 1))
    def expire(self, batch: int) -> None:
        number = self.numbers[batch]
        grist.change(self.database, number, expires_at=clock.now() - 1)
        self.database.write(lambda session: endings.expire(session, number))

    @rule(batch=st.integers(0, 1))
    def stop_some(self, batch: int) -> None:
        self.database.write(lambda session: endings.stop_lines(session, self.numbers[batch]))

    @rule(batch=st.integers(0, 1))
    def finalize(self, batch: int) -> None:
        self.database.write(lambda session: endings.finalize(session, self.numbers[batch]))

    @rule(batch=st.integers(0, 1))
    def merge(self, batch: int) -> None:
        ready = grist.slices_of(self.database, self.numbers[batch], SliceState.READY)
        same = [row.id for row in ready if row.route == ready[0].route]
        self.database.write(lambda session: dispatching.merge(session, self.numbers[batch], same))

    # The owner

    @rule(batch=st.integers(0, 1))
    def cancel(self, batch: int) -> None:
        self._as_owner(batches.request_cancel, batch)

    @rule(batch=st.integers(0, 1))
    def pause(self, batch: int) -> None:
        self._as_owner(batches.pause, batch)

    @rule(batch=st.integers(0, 1), more=st.sampled_from([0, PRICE, 9 * PRICE]))
    def resume(self, batch: int, more: int) -> None:
        row = grist.batch(self.database, self.numbers[batch])
        cap = None if row.max_cost is None else row.max_cost + more
        self._as_owner(lambda *names: batches.resume(*names, max_cost=cap), batch)

    @rule(more=st.sampled_from([0, 2 * PRICE]))
    def raise_budget(self, more: int) -> None:
        self.budget += more
        self.database.write(lambda session: api_keys.change(session, self.key, budget_month=self.budget))
        self.database.write(lambda session: purses.wake(session, self.key))

    def _as_owner(self, act: Any, batch: int) -> None:
        row = grist.batch(self.database, self.numbers[batch])
        if row.status not in AT_REST:
            self.database.write(lambda session: act(session, row.owner, row.id))

    @rule(batch=st.integers(0, 1))
    def retry(self, batch: int) -> None:
        row = grist.batch(self.database, self.numbers[batch])
        try:
            generations.retry(self.database, row.owner, row.id, lambda route: 2)
        except generations.GenerationError:
            return
        self._as_owner(batches.resume, batch)

    # What holds

    @invariant()
    def rows_agree(self) -> None:
        truth.check(self.database)

    @invariant()
    def batches_move_as_they_may(self) -> None:
        for row in grist.all_of(self.database, BATCH):
            before, now = self.statuses[row.number], BatchStatus(row.status)
            assert before == now or now in BATCH_MOVES[before] or now in _through_finalizing(before)
            self.statuses[row.number] = now
            assert self.repeats[row.number] <= row.repeats_at_most
            if row.max_cost is not None:
                assert row.cost + row.reserved <= row.max_cost + row.repeats_at_most * PRICE

    @invariant()
    def the_budget_is_kept(self) -> None:
        every = grist.all_of(self.database, BATCH)
        spent, repeats = sum(row.cost + row.reserved for row in every), sum(row.repeats_at_most for row in every)
        assert spent <= self.budget + repeats * PRICE

    @invariant()
    def jobs_move_as_they_may_and_successes_stay(self) -> None:
        for row in grist.all_of(self.database, JOB):
            before, now = self.jobs.get(row.id, JobState.PENDING), JobState(row.state)
            assert before == now or now in JOB_MOVES[before]
            self.jobs[row.id] = now
        for row in grist.all_of(self.database, RESULT, RESULT.c.kind == "output"):
            assert self.successes.setdefault(row.job, bytes(row.line)) == bytes(row.line)

    @invariant()
    def files_at_rest_hold_every_line_once_and_keep_their_bytes(self) -> None:
        for row in grist.all_of(self.database, BATCH):
            results = grist.all_of(self.database, RESULT, RESULT.c.batch == row.number)
            if row.status in AT_REST:
                truth.lines_at_rest(self.database, row.number, [f"line-{i}" for i in range(1, row.total + 1)])
                self.files.setdefault((row.number, row.generation), _file(results, row.generation))
            for (number, generation), lines in self.files.items():
                if number == row.number:
                    assert _file(results, generation) == lines

    def _note_repeat(self, call: Call) -> None:
        """A call of a line while what became of its last one is not known needs an excuse."""
        earlier = self.under_way.setdefault((call.job.id, call.job.generation), [])
        if earlier and not earlier[-1].known:
            self.repeats[call.claim.batch] += 1
        earlier.append(call)


def _through_finalizing(before: BatchStatus) -> set[BatchStatus]:
    return {after for between in BATCH_MOVES[before] & {BatchStatus.FINALIZING} for after in BATCH_MOVES[between]}


def _file(results: Any, generation: int) -> list[tuple[int, str, bytes]]:
    return [
        (row.job, row.kind, bytes(row.line))
        for row in results
        if row.generation <= generation and (row.superseded_in is None or row.superseded_in > generation)
    ]


def _erase(session: Session) -> None:
    for table in SQLModel.metadata.sorted_tables:
        session.connection().execute(table.delete())


def test_every_history(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endings, "MOST_JOBS", 3)
    monkeypatch.setattr(generations, "MOST_JOBS", 2)

    class Here(History):
        @override
        def teardown(self) -> None:
            database.write(_erase)

    Here.database = database
    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=60 if database.sqlite else 10,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
