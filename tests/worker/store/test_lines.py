from tests import grist
from tests.grist import Worker
from worker import tables
from worker.database import Database
from worker.states import JobState, Outcome
from worker.store import lines
from worker.store.lines import Line


def page(database: Database, number: int, state: JobState | None = None, after: int = 0, limit: int = 9) -> list[Line]:
    with database.read() as session:
        return lines.page(session, number, state=state, after=after, limit=limit)


def numbers(found: list[Line]) -> list[int]:
    return [tables.job_line(line.job.id) for line in found]


def test_lines_are_found_by_state_and_paged_in_input_order(database: Database, worker: Worker) -> None:
    number = grist.add(database, 6, bad=1)
    grist.add(database, 6)
    [slice, *_] = grist.slices_of(database, number)
    claim = worker.begin(slice.id)
    outcomes = {1: Outcome.FAILED, 2: Outcome.SUCCEEDED, 4: Outcome.FAILED, 5: Outcome.FAILED}
    worker.record(*(grist.end(claim, claim.jobs[line - 1], outcome) for line, outcome in outcomes.items()))
    assert numbers(page(database, number)) == [1, 2, 3, 4, 5, 6, 7]
    assert numbers(page(database, number, JobState.FAILED)) == [1, 4, 5, 7]
    assert numbers(page(database, number, JobState.FAILED, after=1, limit=2)) == [4, 5]
    assert numbers(page(database, number, JobState.PENDING)) == [3, 6]
    assert numbers(page(database, number, JobState.EXPIRED)) == []
    [refused] = page(database, number, after=6)
    assert (refused.job.route, refused.attempts, refused.tried) == (None, (), 0)


def test_each_line_has_its_newest_attempts_oldest_first(database: Database, worker: Worker) -> None:
    number = grist.add(database, 2)
    [slice] = grist.slices_of(database, number)
    claim = worker.begin(slice.id)
    waiting, other = claim.jobs
    tries = [grist.end(claim, waiting, Outcome.RATE_LIMITED, attempt=attempt) for attempt in range(1, 31)]
    worker.record(*tries, grist.end(claim, other, attempt=7, request_id="req"))
    first, second = page(database, number)
    assert first.job.route == grist.ROUTE
    assert (first.tried, [attempt.id for attempt in first.attempts]) == (30, list(range(11, 31)))
    assert (second.tried, [(attempt.id, attempt.request_id) for attempt in second.attempts]) == (1, [(7, "req")])
