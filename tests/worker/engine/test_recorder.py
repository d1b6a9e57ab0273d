"""The recorder over a real database that fails when the test says so."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlmodel import Session

from providers.usage import Usage
from tests import grist, truth
from tests.grist import FAR, Worker
from worker.database import Database, DatabaseAway
from worker.engine import recorder as recorders
from worker.engine.recorder import Recorder
from worker.states import JobState, Outcome
from worker.store.slices import Claim

TOO_MANY = 1 << 70
"""More tokens than any column holds."""


class Moody:
    """A database that is away for the next writes, or loses the answer to a commit."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.away = 0
        self.lost = 0
        self.writes = 0

    async def written(self, change: Callable[[Session], Any]) -> Any:
        self.writes += 1
        if self.away:
            self.away -= 1
            raise DatabaseAway("away")
        answer = await self.database.written(change)
        if self.lost:
            self.lost -= 1
            raise DatabaseAway("lost")
        return answer


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorders, "LONGEST_WAIT", 0.05)


@pytest.fixture
def moody(database: Database) -> Moody:
    return Moody(database)


@pytest.fixture
def claim(database: Database) -> Claim:
    number = grist.add(database, 6)
    return Worker(database).claim(grist.slices_of(database, number)[0].id)


def run(moody: Moody, scenario: Callable[[Recorder], Awaitable[None]], *, rows: int = 500) -> None:
    async def main() -> None:
        database: Any = moody
        recorder = Recorder(database, FAR, gap=0.001, rows=rows, seen=lambda views: None)
        task = asyncio.create_task(recorder.run())
        try:
            async with asyncio.timeout(20):
                await asyncio.wait([asyncio.ensure_future(scenario(recorder)), task], return_when="FIRST_COMPLETED")
                await recorder.flushed()
            assert not task.done()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())


def nothing(done: bool) -> None:
    return None


def test_answers_are_stored_in_groups_and_told(database: Database, moody: Moody, claim: Claim) -> None:
    stored: list[int] = []

    async def scenario(recorder: Recorder) -> None:
        assert (await recorder.start(grist.start(claim))).count == 6
        for job in claim.jobs:
            recorder.put(grist.end(claim, job), lambda done, job=job: stored.append(job.id))  # type: ignore[misc]
        assert recorder.backlog == 6 and stored == []
        await recorder.flushed()
        assert recorder.backlog == 0 and len(stored) == 6

    run(moody, scenario)
    assert moody.writes == 2
    assert grist.batch(database, claim.batch).completed == 6
    truth.check(database)


def test_a_commit_takes_no_more_rows_than_it_may(moody: Moody, claim: Claim, database: Database) -> None:
    async def scenario(recorder: Recorder) -> None:
        for job in claim.jobs:
            recorder.put(grist.end(claim, job), nothing)
        await recorder.flushed()

    run(moody, scenario, rows=2)
    assert moody.writes == 3
    truth.check(database)


def test_while_the_database_is_away_answers_are_held(database: Database, moody: Moody, claim: Claim) -> None:
    async def scenario(recorder: Recorder) -> None:
        moody.away = 4
        for job in claim.jobs:
            recorder.put(grist.end(claim, job), nothing)
        await recorder.flushed()

    run(moody, scenario)
    row = grist.batch(database, claim.batch)
    assert (moody.writes, row.completed, row.attempts) == (5, 6, 6)
    truth.check(database)


def test_a_lost_commit_is_not_counted_twice(database: Database, moody: Moody, claim: Claim) -> None:
    kinds = [Outcome.SUCCEEDED, Outcome.FAILED, Outcome.RETRY]

    async def scenario(recorder: Recorder) -> None:
        await recorder.start(grist.start(claim, cost=5))
        moody.lost = 2
        for place, job in enumerate(claim.jobs):
            recorder.put(grist.end(claim, job, kinds[place % 3], reserved=5), nothing)
        await recorder.flushed()

    run(moody, scenario)
    row = grist.batch(database, claim.batch)
    assert (row.completed, row.failed, row.retries, row.attempts, row.reserved) == (2, 2, 2, 6, 0)
    truth.check(database)


def test_a_start_whose_answer_is_lost_is_granted_once(database: Database, moody: Moody, claim: Claim) -> None:
    async def scenario(recorder: Recorder) -> None:
        moody.lost = 1
        assert (await recorder.start(grist.start(claim, cost=5))).count == 6

    run(moody, scenario)
    assert grist.batch(database, claim.batch).reserved == 30
    truth.check(database)


def test_a_start_does_not_overtake_the_end_of_the_last_call(database: Database, moody: Moody, claim: Claim) -> None:
    """Otherwise the end would take the line out of those that are under way while its second call is."""
    job = claim.jobs[0]

    async def scenario(recorder: Recorder) -> None:
        await recorder.start(grist.start(claim, *claim.jobs[:4]))
        for one in claim.jobs[1:4]:
            recorder.put(grist.end(claim, one), nothing)
        recorder.put(grist.end(claim, job, Outcome.RETRY), nothing)
        assert (await recorder.start(grist.start(claim, job))).count == 1
        assert grist.slice_of(database, claim.slice).started == "1"

    run(moody, scenario, rows=1)
    truth.check(database)


def test_a_row_that_no_database_takes_does_not_keep_the_others(database: Database, moody: Moody, claim: Claim) -> None:
    async def scenario(recorder: Recorder) -> None:
        await recorder.start(grist.start(claim))
        for place, job in enumerate(claim.jobs):
            tokens = TOO_MANY if place == 2 else 1
            recorder.put(grist.end(claim, job, usage=Usage(input_tokens=tokens)), nothing)
        await recorder.flushed()

    run(moody, scenario)
    row = grist.batch(database, claim.batch)
    assert (row.completed, row.attempts, row.unknown_cost, row.input_tokens) == (6, 6, 1, 5)
    truth.check(database)


@pytest.mark.parametrize("outcome", [Outcome.SUCCEEDED, Outcome.RETRY])
def test_alone_it_is_stored_without_what_cannot_be(
    database: Database, moody: Moody, claim: Claim, outcome: Outcome
) -> None:
    async def scenario(recorder: Recorder) -> None:
        await recorder.start(grist.start(claim))
        recorder.put(grist.end(claim, claim.jobs[0], outcome, usage=Usage(input_tokens=TOO_MANY)), nothing)
        await recorder.flushed()

    run(moody, scenario)
    row = grist.batch(database, claim.batch)
    assert (row.completed, row.attempts, row.unknown_cost) == (outcome is Outcome.SUCCEEDED, 1, 1)
    truth.check(database)


def test_a_result_that_cannot_be_stored_at_all_fails_its_line(
    database: Database, moody: Moody, claim: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = moody.database

    class Picky:
        async def written(self, change: Callable[[Session], Any]) -> Any:
            if any(end.line.endswith(b'"x"}},"error":null}\n') for end in change.keywords["ends"]):  # type: ignore[attr-defined]
                raise ValueError("not this line")
            return await real.written(change)

    moody.database = Picky()  # type: ignore[assignment]

    async def scenario(recorder: Recorder) -> None:
        await recorder.start(grist.start(claim))
        recorder.put(grist.end(claim, claim.jobs[0]), nothing)
        await recorder.flushed()

    run(moody, scenario)
    job = grist.job(database, claim.batch, 1)
    assert (job.state, job.error_code) == (JobState.FAILED, "internal_error")
    truth.check(database)
