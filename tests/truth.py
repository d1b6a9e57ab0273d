"""What must hold between the rows of every batch after every transaction."""

import json
from collections import Counter
from typing import Any

import sqlalchemy

from tests import grist
from worker import tables
from worker.database import Database
from worker.states import AT_REST, JobState, Outcome, SliceState
from worker.tables import API_KEY, ATTEMPT, BATCH, JOB, RESULT, SLICE, SPEND, TALLY

SPENT = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "cost")


def check(database: Database) -> None:
    """Counters equal counted rows, results stand for states, reservations for leases."""
    with database.read() as session:
        read = session.connection().execute
        every = {table.name: read(sqlalchemy.select(table)).all() for table in (JOB, RESULT, SLICE, TALLY, ATTEMPT)}
        batches = read(sqlalchemy.select(BATCH)).all()
        keys, spends = read(sqlalchemy.select(API_KEY)).all(), read(sqlalchemy.select(SPEND)).all()
    for key in keys:
        _purse(key, [row for row in batches if row.api_key == key.id], [row for row in spends if row.api_key == key.id])
    for batch in batches:
        jobs = [row for row in every["job"] if tables.job_batch(row.id) == batch.number]
        results = [row for row in every["result"] if row.batch == batch.number]
        slices = [row for row in every["slice"] if row.batch == batch.number]
        attempts = [row for row in every["attempt"] if tables.job_batch(row.job) == batch.number]
        _counters(batch, jobs)
        _results(batch, jobs, results)
        _slices(batch, jobs, slices)
        _spent(batch, attempts)
        for tally in every["tally"]:
            if tally.batch == batch.number:
                _tally(tally, jobs, slices)
        if batch.status in AT_REST:
            assert batch.open == 0 and batch.due_at is None and batch.reserved == 0


def _purse(key: Any, batches: list[Any], spends: list[Any]) -> None:
    """Of a key whose every attempt was made with it."""
    assert key.reserved == sum(batch.reserved for batch in batches)
    for length in (len("2026-11-21"), len("2026-11")):
        assert sum(row.cost for row in spends if len(row.period) == length) == sum(batch.cost for batch in batches)


def lines_at_rest(database: Database, number: int, custom_ids: list[str]) -> None:
    """Output and error lines together hold every custom_id exactly once."""
    current = grist.all_of(database, RESULT, RESULT.c.batch == number, RESULT.c.superseded_in.is_(None))
    assert sorted(json.loads(row.line)["custom_id"] for row in current) == sorted(custom_ids)


def _counters(batch: Any, jobs: list[Any]) -> None:
    states = Counter(row.state for row in jobs)
    completed, open_jobs = states[JobState.SUCCEEDED], states[JobState.PENDING]
    counted = (completed, len(jobs) - completed - open_jobs, open_jobs, len(jobs))
    assert (batch.completed, batch.failed, batch.open, batch.total) == counted


def _results(batch: Any, jobs: list[Any], results: list[Any]) -> None:
    current = [row for row in results if row.superseded_in is None]
    kinds = {row.job: row.kind for row in current}
    assert len(kinds) == len(current)
    assert kinds == {
        row.id: "output" if row.state == JobState.SUCCEEDED else "error"
        for row in jobs
        if row.state != JobState.PENDING
    }
    for kind, size in (("output", batch.output_bytes), ("error", batch.error_bytes)):
        assert size == sum(len(row.line) for row in current if row.kind == kind)
    sequence = [row.seq for row in results]
    assert len(set(sequence)) == len(sequence) and max(sequence, default=0) <= batch.seq


def _slices(batch: Any, jobs: list[Any], slices: list[Any]) -> None:
    pending = Counter(row.slice for row in jobs if row.state == JobState.PENDING)
    first = {slice: tables.job_line(min(j.id for j in jobs if j.slice == slice)) for slice in pending}
    for row in slices:
        assert row.open == pending[row.id]
        assert (row.state == SliceState.DONE) == (row.open == 0)
        assert row.reserved >= 0
        if row.state != SliceState.LEASED:
            assert (row.reserved, row.started, row.lease_owner, row.lease_until) == (0, "", None, None)
        if row.open and row.state != SliceState.LEASED:  # lines leave a leased slice; its release says what is first
            assert row.first_line >= first[row.id]
    assert set(pending) <= {row.id for row in slices}
    assert batch.reserved == sum(row.reserved for row in slices)


def _spent(batch: Any, attempts: list[Any]) -> None:
    outcomes = Counter(row.outcome for row in attempts)
    assert batch.attempts == len(attempts)
    assert (batch.retries, batch.rate_limited) == (outcomes[Outcome.RETRY], outcomes[Outcome.RATE_LIMITED])
    assert batch.unknown_cost == sum(row.cost is None for row in attempts)
    for name in SPENT:
        assert getattr(batch, name) == sum(getattr(row, name) or 0 for row in attempts)


def _tally(tally: Any, jobs: list[Any], slices: list[Any]) -> None:
    mine = {row.id for row in slices if row.route == tally.route}
    states = Counter(row.state for row in jobs if row.slice in mine)
    finished = sum(states.values()) - states[JobState.PENDING]
    assert tally.lines == sum(states.values())
    assert (tally.completed, tally.failed) == (states[JobState.SUCCEEDED], finished - states[JobState.SUCCEEDED])
