"""Record: the one transaction that stores what calls brought, and that says which further calls may begin.

Lock order: batch, API key, slice, job. Everything is read under the batch's lock, decided in Python, and written back;
counters change only by the rows that really changed. Running it again after a lost commit changes nothing.
"""

import logging
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection
from sqlmodel import Session

from worker import tables
from worker.database import executemany
from worker.states import AT_REST, BatchStatus, JobState, Kind, Outcome, SliceState
from worker.store import calls, handing, purses
from worker.store import recording_rows as rows
from worker.store.calls import BatchView, Ended, Granted, Recorded, Start
from worker.store.purses import Purse

log = logging.getLogger("gristmill.recording")

ALIKE_LIMIT = 20
"""So many first finished lines of one model that all fail with one code pause that model."""
NEVER_ALIKE = frozenset({"content_filter", "context_length_exceeded", "payload_too_large", "request_too_large"})
"""Codes that an evaluation may mean to provoke."""
OTHERS_SECONDS = 5.0
"""So long a batch rests whose next call fits the key's budget only if other batches' calls cost less than thought."""
MAX_COST = "max_cost"
UNKNOWN_COST = "unknown_cost"
"""Why a model pauses whose price is unknown, in a batch with a cap that does not allow that."""


def record(
    session: Session, holder: str, ends: Sequence[Ended], starts: Sequence[Start], *, again: bool = False
) -> Recorded:
    """Store ``ends``, then grant ``starts``. ``again``: the commit of the same ends may already have succeeded."""
    book = _Book(session.connection(), holder, ends, starts)
    known = book.known_attempts(ends) if again else frozenset()
    for end in ends:
        is_new = (end.job, end.attempt) not in known
        if book.is_deleted(end.batch):
            book.outlived(end, is_new=is_new)
        else:
            book.end(end, is_new=is_new)
    answer = Recorded(granted=[book.start(start) for start in starts])
    book.write()
    answer.done = {slice.id for slice in book.slices.values() if slice.open == 0}
    answer.batches = {
        number: BatchView(
            stop=batch.stop is not None,
            held=batch.paused_at is not None or batch.capped_at is not None or book.is_over_budget(batch),
        )
        for number, batch in book.batches.items()
    }
    return answer


class _Book:
    """The rows that one transaction has locked, changed in memory and written once."""

    def __init__(self, connection: Connection, holder: str, ends: Sequence[Ended], starts: Sequence[Start]) -> None:
        self.connection = connection
        self.holder = holder
        items: list[Ended | Start] = [*ends, *starts]
        self.batches = {
            row.number: row for row in rows.load(connection, rows.BatchRow, "number", {i.batch for i in items})
        }
        self.now = float(connection.execute(rows.NOW).scalar_one())
        keys = {row.api_key for row in self.batches.values() if row.api_key is not None}
        self.purses = purses.load(connection, keys, self.now, lock=True)
        jobs = rows.load(connection, rows.JobRow, "id", {end.job for end in ends}, lock=False)
        self.jobs = {row.id: row for row in jobs}
        slices = {item.slice for item in items} | {row.slice for row in jobs}
        self.slices = {row.id: row for row in rows.load(connection, rows.SliceRow, "id", slices)}
        self.tallies = {
            (t.batch, t.route): t for t in rows.load(connection, rows.TallyRow, "batch", set(self.batches), lock=False)
        }
        for row in self.slices.values():
            row.started = {int(line) for line in str(row.started).split(",") if line}
        self.attempt_rows: list[tuple[Any, ...]] = []
        self.result_rows: dict[tuple[int, int], tuple[Any, ...]] = {}
        self.replaced: list[tuple[int, int]] = []
        self.superseded: list[tuple[int, int, int]] = []
        self.changed_jobs: dict[int, tuple[rows.JobRow, Ended]] = {}
        self.touched_tallies: set[tuple[int, str]] = set()
        self.handed_on: dict[tuple[int, str], tuple[str, list[Ended]]] = {}

    def known_attempts(self, ends: Sequence[Ended]) -> frozenset[tuple[int, int]]:
        found = rows.select_in(self.connection, "SELECT job, id FROM attempt WHERE job", {end.job for end in ends})
        return frozenset((job, attempt) for job, attempt in found)

    def is_deleted(self, number: int) -> bool:
        batch = self.batches.get(number)
        return batch is None or batch.deleted_at is not None

    def outlived(self, end: Ended, *, is_new: bool) -> None:
        """Its batch has ended and was deleted: what the call used still counts (store/erasing.py sums it up)."""
        batch = self.batches.get(end.batch)
        if batch is not None and is_new:
            self.attempt_rows.append(rows.attempt_values(end))
            self._spend(batch, end)
        elif is_new:
            log.warning("a call of a batch deleted long ago has ended and is counted nowhere: %s", end.deployment)

    def end(self, end: Ended, *, is_new: bool) -> None:
        batch, tally = self.batches[end.batch], self.tallies[(end.batch, end.route)]
        fenced = self._holds(end.slice, end.epoch)
        if is_new:
            self._attempt(batch, tally, end)
        if fenced:
            self._landed(batch, self.slices[end.slice], end, is_new)
        job = self.jobs[end.job]
        if end.trail is not None and fenced and _is_mine(job, end):
            self._hand_on(job, end, end.trail)
        elif self._decides(batch, job, end, fenced):
            self._result(batch, tally, job, end)

    def start(self, start: Start) -> Granted:
        if self.is_deleted(start.batch):
            return Granted(0, closed=True)
        batch, slice = self.batches[start.batch], self.slices[start.slice]
        tally = self.tallies[(start.batch, start.route)]
        if (
            not self._holds(start.slice, start.epoch)
            or (slice.lease_until or 0) <= self.now
            or batch.status != BatchStatus.IN_PROGRESS
            or any(mark is not None for mark in (batch.stop, batch.paused_at, batch.capped_at, tally.paused_at))
            or self.is_over_budget(batch)
        ):
            return Granted(0, closed=True)
        purse = self._purse(batch)
        if (tally.input_price is None or start.is_unpriced) and not _allows_unknown_cost(batch, purse):
            if batch.kind == Kind.HELD:
                return self._refuse(batch, tally, start, UNKNOWN_COST, "The price of the model is unknown.")
            tally.paused_at, tally.alike_code = self.now, UNKNOWN_COST
            self.touched_tallies.add((tally.batch, tally.route))
            return Granted(0, closed=True)
        granted = 0
        assert isinstance(slice.started, set)
        for job, cost in zip(start.jobs, start.costs, strict=True):
            line = tables.job_line(job)
            if line not in slice.started:
                if batch.max_cost is not None and batch.cost + batch.reserved + cost > batch.max_cost:
                    if batch.kind == Kind.HELD:
                        return self._refuse(
                            batch, tally, start, MAX_COST, "Another attempt may cost more than allowed."
                        )
                    batch.capped_at = self.now if batch.reserved == 0 else None
                    break
                if purse is not None and not purse.fits(cost):
                    self._wait_for_budget(batch, purse, cost)
                    break
                self._reserve(batch, slice, cost)
                slice.started.add(line)
            granted += 1
        if granted:
            batch.over_budget_at = batch.over_budget_until = None
        return Granted(granted, closed=batch.capped_at is not None or self.is_over_budget(batch))

    def _refuse(self, batch: rows.BatchRow, tally: rows.TallyRow, start: Start, code: str, message: str) -> Granted:
        """A held job ends with an error where a batch would wait for its owner: its client waits for an answer."""
        [id] = start.jobs
        [job] = rows.load(self.connection, rows.JobRow, "id", [id], lock=False)
        if job.state == JobState.PENDING and not self.slices[start.slice].started:
            [[custom_id, owner]] = rows.select_in(self.connection, "SELECT custom_id, owner FROM job WHERE id", [id])
            self.jobs[id] = job
            self._result(batch, tally, job, calls.refused(start, owner, job.generation, custom_id, code, message))
            self.touched_tallies.add((tally.batch, tally.route))
        return Granted(0, closed=True)

    def write(self) -> None:
        executemany(self.connection, rows.INSERT_ATTEMPT, self.attempt_rows)
        executemany(self.connection, "DELETE FROM result WHERE job = ? AND generation = ?", self.replaced)
        executemany(
            self.connection,
            "UPDATE result SET superseded_in = ? WHERE job = ? AND generation = ?",
            self.superseded,
        )
        executemany(self.connection, rows.INSERT_RESULT, list(self.result_rows.values()))
        executemany(
            self.connection,
            "UPDATE job SET state = ?, generation = ?, error_code = ?, answered_by = ? WHERE id = ?",
            [
                (job.state, job.generation, end.error_code, end.attempt, job.id)
                for job, end in self.changed_jobs.values()
            ],
        )
        for trail, ends in self.handed_on.values():
            handing.regroup(self.connection, trail, ends)
        for slice in self.slices.values():
            if slice.open == 0:
                self._reserve(self.batches[slice.batch], slice, -slice.reserved)
            assert isinstance(slice.started, set)
            slice.started = ",".join(map(str, sorted(slice.started)))
        executemany(self.connection, rows.UPDATE_SLICE, [rows.slice_values(row) for row in self.slices.values()])
        executemany(
            self.connection, rows.UPDATE_BATCH, [rows.batch_values(row, self.now) for row in self.batches.values()]
        )
        answered = [row.number for row in self.batches.values() if _is_answered(row)]
        executemany(self.connection, rows.CLOSE_BATCH, [(self.now, self.now, number) for number in answered])
        executemany(
            self.connection, rows.UPDATE_TALLY, [rows.tally_values(self.tallies[key]) for key in self.touched_tallies]
        )
        purses.store(self.connection, self.purses.values())

    def is_over_budget(self, batch: rows.BatchRow) -> bool:
        return batch.over_budget_until is not None and batch.over_budget_until > self.now

    def _holds(self, slice: int, epoch: int) -> bool:
        row = self.slices[slice]
        return row.state == SliceState.LEASED and row.epoch == epoch and row.lease_owner == self.holder

    def _purse(self, batch: rows.BatchRow) -> Purse | None:
        return None if batch.api_key is None else self.purses.get(batch.api_key)

    def _reserve(self, batch: rows.BatchRow, slice: rows.SliceRow, cost: int) -> None:
        batch.reserved += cost
        slice.reserved += cost
        if purse := self._purse(batch):
            purse.reserved += cost

    def _spend(self, batch: rows.BatchRow, end: Ended) -> None:
        if purse := self._purse(batch):
            purse.spend(end.cost or 0)

    def _wait_for_budget(self, batch: rows.BatchRow, purse: Purse, cost: int) -> None:
        """Until the period ends; while other calls of the key are in flight, which may leave room, only for a moment.

        If those are the batch's own, its lines wait where they are.
        """
        if batch.reserved == 0:
            batch.over_budget_at = batch.over_budget_at or self.now
            batch.over_budget_until = self.now + OTHERS_SECONDS if purse.reserved else purse.ends_at(cost)

    def _attempt(self, batch: rows.BatchRow, tally: rows.TallyRow, end: Ended) -> None:
        self.attempt_rows.append(rows.attempt_values(end))
        self.touched_tallies.add((tally.batch, tally.route))
        batch.attempts += 1
        self._spend(batch, end)
        for sums in (batch, tally):
            sums.retries += end.outcome is Outcome.RETRY
            sums.rate_limited += end.outcome is Outcome.RATE_LIMITED
            sums.cost += end.cost or 0
            sums.unknown_cost += end.cost is None
            if end.usage is not None:
                sums.input_tokens += end.usage.input_tokens
                sums.cached_tokens += end.usage.cached_tokens
                sums.output_tokens += end.usage.output_tokens
                sums.reasoning_tokens += end.usage.reasoning_tokens

    def _landed(self, batch: rows.BatchRow, slice: rows.SliceRow, end: Ended, is_new: bool) -> None:
        """The call is over and known: it can no longer be repeated unawares, and its reservation is settled."""
        batch.repeats_at_most += is_new and end.outcome is Outcome.ABANDONED and batch.stop is None
        line = tables.job_line(end.job)
        assert isinstance(slice.started, set)
        if line in slice.started:
            slice.started.discard(line)
            self._reserve(batch, slice, -end.reserved)

    def _decides(self, batch: rows.BatchRow, job: rows.JobRow, end: Ended, fenced: bool) -> bool:
        if batch.status in AT_REST or end.kind is None:
            return False
        if end.outcome is Outcome.SUCCEEDED:
            return job.state != JobState.SUCCEEDED
        return job.state == JobState.PENDING and fenced and job.generation == end.generation

    def _result(self, batch: rows.BatchRow, tally: rows.TallyRow, job: rows.JobRow, end: Ended) -> None:
        succeeded = end.outcome is Outcome.SUCCEEDED
        if job.state == JobState.PENDING:
            batch.open -= 1
            self.slices[job.slice].open -= 1
        else:
            self._withdraw(batch, tally, job)
        job.generation = batch.generation
        for sums in (batch, tally):
            sums.completed += succeeded
            sums.failed += not succeeded
        batch.seq += 1
        batch.output_bytes += len(end.line) if succeeded else 0
        batch.error_bytes += 0 if succeeded else len(end.line)
        row = (job.id, job.generation, end.owner, batch.number, batch.seq, end.kind, end.line)
        self.result_rows[(job.id, job.generation)] = row
        job.state = JobState.SUCCEEDED if succeeded else JobState.FAILED
        self.changed_jobs[job.id] = (job, end)
        _note_ending(tally, end)
        _note_alike(tally, end, self.now)

    def _hand_on(self, job: rows.JobRow, end: Ended, trail: str) -> None:
        """The line leaves its slice for one of those that go the same way; nobody can have seen that one yet."""
        _, ends = self.handed_on.setdefault((job.slice, trail), (trail, []))
        ends.append(end)
        self.slices[job.slice].open -= 1

    def _withdraw(self, batch: rows.BatchRow, tally: rows.TallyRow, job: rows.JobRow) -> None:
        """An error row gives way to the success that arrived after it; in the file of an older generation it stays."""
        key = (job.id, job.generation)
        if unwritten := self.result_rows.pop(key, None):
            size = len(unwritten[-1])
        else:
            [[size]] = rows.select_in(
                self.connection,
                f"SELECT length(line) FROM result WHERE generation = {job.generation} AND job",
                {job.id},
            )
            if job.generation == batch.generation:
                self.replaced.append(key)
            else:
                self.superseded.append((batch.generation, *key))
        batch.error_bytes -= size
        for sums in (batch, tally):
            sums.failed -= 1


def _allows_unknown_cost(batch: rows.BatchRow, purse: Purse | None) -> bool:
    """A budget that was set later counts too."""
    if purse is not None and purse.is_limited:
        return batch.allow_unknown_cost and purse.allows_unknown
    return batch.allow_unknown_cost or batch.max_cost is None


def _is_answered(batch: rows.BatchRow) -> bool:
    """A held job is at rest with its answer: nobody is told, and a closer would cost another transaction."""
    running = batch.status == BatchStatus.IN_PROGRESS and batch.stop is None
    return batch.kind == Kind.HELD and running and batch.open == 0


def _is_mine(job: rows.JobRow, end: Ended) -> bool:
    """Still pending, and in the slice from which it was called: a commit that is repeated finds it elsewhere."""
    return job.state == JobState.PENDING and job.slice == end.slice and job.generation == end.generation


def _note_ending(tally: rows.TallyRow, end: Ended) -> None:
    match end.ending:
        case "truncated":
            tally.truncated += 1
        case "filtered":
            tally.filtered += 1
        case "refused":
            tally.refused += 1
        case "empty":
            tally.empty += 1


def _note_alike(tally: rows.TallyRow, end: Ended, now: float) -> None:
    """Count first lines that fail alike; -1 once anything else has finished."""
    code = end.error_code
    if end.outcome is Outcome.SUCCEEDED or code in NEVER_ALIKE or tally.alike_code not in (None, code):
        tally.alike = -1
    elif tally.alike >= 0:
        tally.alike, tally.alike_code = tally.alike + 1, code
        if tally.alike == ALIKE_LIMIT:
            tally.paused_at = now
