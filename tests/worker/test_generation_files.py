"""Promise 2 on 1,000 lines: what a retry does to the files, and what it leaves alone."""

from collections.abc import Collection

import orjson

from tests import grist
from tests.grist import Worker
from worker import output_files, output_line, tables
from worker.database import Database
from worker.output_files import Kind
from worker.states import JobState, Outcome, SliceState
from worker.store import batches, generations
from worker.store.calls import Ended
from worker.store.slices import Claim, ClaimedJob
from worker.tables import Batch

LINES, CANCELLED = 1_000, 50
FAILING = frozenset(range(5, 905, 9))
FAILING_AGAIN = frozenset(range(5, 275, 9))
KINDS: tuple[Kind, Kind] = ("output", "error")


def test_a_retry_leaves_both_old_files_as_they_are_and_the_new_ones_hold_every_line_once(database: Database) -> None:
    number = grist.add(database, *[200] * (LINES // 200))
    run(database, number, FAILING, last_line=LINES - CANCELLED)
    grist.stop(database, number)
    assert grist.settle(database, number) == "cancelled"
    first = grist.batch(database, number)
    before = contents(database, first)
    assert [content.count(b"\n") for content in before] == [850, 150]

    generations.retry(database, "local", first.id, lambda route: 64)
    database.write(lambda session: batches.resume(session, "local", first.id))
    assert contents(database, first) == before
    run(database, number, FAILING_AGAIN, last_line=LINES)
    assert grist.settle(database, number) == "completed"

    second = grist.batch(database, number)
    after = contents(database, second)
    assert contents(database, first) == before
    assert [content.count(b"\n") for content in after] == [970, 30]
    old_answers, old_errors, answers, errors = map(split, (*before, *after))
    assert old_answers < answers and old_errors.isdisjoint(errors)
    assert lines_of(answers | errors) == list(range(1, LINES + 1))
    assert lines_of(errors) == sorted(FAILING_AGAIN)
    assert (second.generation, second.completed, second.failed, second.open) == (2, 970, 30, 0)
    assert (second.output_bytes, second.error_bytes) == tuple(map(len, after))
    assert grist.states_of(database, number).count(JobState.SUCCEEDED) == 970


def run(database: Database, number: int, failing: Collection[int], *, last_line: int) -> None:
    """Answer what is pending up to that line, and give the rest back."""
    worker = Worker(database)
    for slice in grist.slices_of(database, number, SliceState.READY):
        claim = worker.begin(slice.id)
        called = [job for job in claim.jobs if tables.job_line(job.id) <= last_line]
        worker.record(*(answered(claim, job, failing) for job in called))
        worker.release(claim)


def answered(claim: Claim, job: ClaimedJob, failing: Collection[int]) -> Ended:
    """Every answer is another one, as with a model."""
    outcome = Outcome.FAILED if tables.job_line(job.id) in failing else Outcome.SUCCEEDED
    status, body = (
        (200, b'{"id":"answer-%d-%d"}') if outcome is Outcome.SUCCEEDED else (400, b'{"error":{"n":"%d-%d"}}')
    )
    line = output_line.answered(job.id, job.custom_id, status, None, body % (job.id, claim.slice))
    return grist.end(claim, job, outcome, line=line)


def contents(database: Database, batch: Batch) -> tuple[bytes, ...]:
    """The output file and the error file of the batch's generation."""
    found = []
    for kind in KINDS:
        with database.read() as session:
            file = output_files.find(session, "local", output_files.file_id(batch, kind))
        assert file is not None and file.complete
        content = b"".join(output_files.in_line_order(database, file))
        assert len(content) == file.entry.bytes
        found.append(content)
    return tuple(found)


def split(content: bytes) -> set[bytes]:
    return set(content.splitlines())


def lines_of(lines: set[bytes]) -> list[int]:
    return sorted(int(orjson.loads(line)["custom_id"].removeprefix("line-")) for line in lines)
