import pytest
import sqlalchemy
from sqlmodel import Session, col, select

from tests import rows
from worker import output_files, tables
from worker.database import Database
from worker.states import BatchStatus, JobState, SliceState
from worker.store import files, generations
from worker.store.generations import InputErased, NotAtRest, NothingFailed
from worker.tables import Batch, Job, Result, Slice, Tally

ROUTES = ("openai/a", "openai/b")


def ended(
    session: Session, states: dict[int, JobState], status: BatchStatus = BatchStatus.COMPLETED, refused: int = 0
) -> Batch:
    """A batch at rest whose lines ended so; the first ``refused`` of them at intake."""
    batch = rows.begin(session, rows.add_batch(session))
    assert batch.number is not None
    for place, route in enumerate(ROUTES):
        mine = [line for line in states if line % 2 == place]
        slice = Slice(
            owner="local",
            batch=batch.number,
            route=route,
            state=SliceState.DONE,
            first_line=min(mine, default=1),
            jobs=len(mine),
            open=0,
        )
        session.add(slice)
        session.flush()
        assert slice.id is not None
        for line in mine:
            succeeded = states[line] == JobState.SUCCEEDED
            rows.add_result(session, batch, line, kind="output" if succeeded else "error")
            session.add(
                Job(
                    id=tables.job_id(batch.number, line),
                    owner="local",
                    slice=0 if line <= refused else slice.id,
                    endpoint="chat/completions",
                    state=states[line],
                    offset=0,
                    length=1,
                    model_offset=0,
                    model_length=1,
                    input_tokens=10,
                    output_tokens=5,
                    attempts=6,
                    error_code=None if succeeded else "server_error",
                )
            )
        failed = sum(states[line] != JobState.SUCCEEDED for line in mine)
        session.add(
            Tally(
                batch=batch.number,
                route=route,
                owner="local",
                lines=len(mine),
                failed=failed,
                completed=len(mine) - failed,
            )
        )
    batch.total = len(states)
    batch.failed = sum(state != JobState.SUCCEEDED for state in states.values())
    batch.completed = batch.total - batch.failed
    return rows.end(session, batch, status)


def retry(database: Database, batch: Batch, slice_jobs: int = 200) -> Batch:
    generations.retry(database, "local", batch.id, lambda route: slice_jobs)
    with database.read() as session:
        return session.exec(select(Batch).where(Batch.id == batch.id)).one()


MIXED = {
    1: JobState.SUCCEEDED,
    2: JobState.FAILED,
    3: JobState.EXPIRED,
    4: JobState.SUCCEEDED,
    5: JobState.CANCELLED,
    6: JobState.FAILED,
}


@pytest.mark.parametrize("status", [BatchStatus.COMPLETED, BatchStatus.EXPIRED, BatchStatus.CANCELLED])
def test_only_lines_without_success_become_pending(database: Database, status: BatchStatus) -> None:
    batch = retry(database, database.write(lambda session: ended(session, MIXED, status)))
    assert (batch.status, batch.generation) == (BatchStatus.IN_PROGRESS, 2)
    assert (batch.total, batch.completed, batch.failed, batch.open) == (6, 2, 0, 4)
    assert (batch.completed_at, batch.expired_at, batch.cancelled_at, batch.stop) == (None, None, None, None)
    assert batch.paused_at is not None and batch.due_at is not None and batch.error_bytes == 0
    with database.read() as session:
        jobs = session.exec(select(Job).order_by(col(Job.id))).all()
        assert [job.state == JobState.PENDING for job in jobs] == [False, True, True, False, True, True]
        assert [job.generation for job in jobs] == [1, 2, 2, 1, 2, 2]
        assert [job.attempts for job in jobs] == [6, 0, 0, 6, 0, 0]
        assert {tally.failed for tally in session.exec(select(Tally))} == {0}


def test_reset_lines_stand_in_ready_slices_of_their_route(database: Database) -> None:
    lines = dict.fromkeys(range(1, 12), JobState.FAILED)
    batch = retry(database, database.write(lambda session: ended(session, lines)), slice_jobs=2)
    with database.read() as session:
        slices = session.exec(select(Slice).where(Slice.generation == 2)).all()
        for slice in slices:
            mine = session.exec(select(Job).where(Job.slice == slice.id).order_by(col(Job.id))).all()
            assert slice.state == SliceState.READY
            assert 1 <= len(mine) <= 2
            assert (slice.jobs, slice.open, slice.tokens) == (len(mine), len(mine), 15 * len(mine))
            assert slice.first_line == tables.job_line(mine[0].id)
            assert {ROUTES[tables.job_line(job.id) % 2] for job in mine} == {slice.route}
    assert sum(slice.jobs for slice in slices) == batch.open == 11


def test_the_old_error_file_keeps_its_bytes_and_the_new_one_begins_empty(database: Database) -> None:
    before = database.write(lambda session: ended(session, MIXED))
    old_error = output_files.file_id(before, "error")
    with database.read() as session:
        old = output_files.find(session, "local", old_error)
    assert old is not None
    bytes_before = b"".join(output_files.in_line_order(database, old))
    after = retry(database, before)
    with database.read() as session:
        kept = output_files.find(session, "local", old_error)
        new = output_files.find(session, "local", output_files.file_id(after, "error"))
        output = output_files.find(session, "local", output_files.file_id(after, "output"))
    assert kept is not None and new is not None and output is not None
    assert b"".join(output_files.in_line_order(database, kept)) == bytes_before
    assert b"".join(output_files.in_line_order(database, new)) == b""
    assert b"".join(output_files.in_line_order(database, output)).count(b"\n") == 2


def test_many_lines_are_reset_in_short_steps(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generations, "MOST_JOBS", 3)
    lines = dict.fromkeys(range(1, 11), JobState.FAILED)
    batch = retry(database, database.write(lambda session: ended(session, lines)))
    assert (batch.failed, batch.open) == (0, 10)
    with database.read() as session:
        superseded = session.exec(select(Result.superseded_in)).all()
    assert list(superseded) == [2] * 10


def test_lines_that_were_refused_at_intake_stay_refused(database: Database) -> None:
    batch = retry(database, database.write(lambda session: ended(session, MIXED, refused=2)))
    assert (batch.failed, batch.open) == (1, 3)
    only = database.write(lambda session: ended(session, {1: JobState.FAILED}, refused=1))
    with pytest.raises(NothingFailed):
        retry(database, only)


def test_what_cannot_run_again_says_why(database: Database) -> None:
    running = database.write(lambda session: rows.begin(session, rows.add_batch(session)))
    with pytest.raises(NotAtRest):
        retry(database, running)
    clean = database.write(lambda session: ended(session, {1: JobState.SUCCEEDED}))
    with pytest.raises(NothingFailed):
        retry(database, clean)
    invalid = database.write(lambda session: rows.end(session, rows.add_batch(session), BatchStatus.FAILED))
    with pytest.raises(NothingFailed):
        retry(database, invalid)
    erased = database.write(lambda session: ended(session, MIXED))
    database.write(lambda session: files.delete(session, "local", erased.input_file_id))
    with pytest.raises(InputErased):
        retry(database, erased)
    assert generations.retry(database, "other", erased.id, lambda route: 1) is None


def test_a_cancel_in_between_leaves_the_rest_as_it_was(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generations, "MOST_JOBS", 1)
    batch = database.write(lambda session: ended(session, MIXED))
    reset = generations._reset

    def cancelled_meanwhile(session: Session, *args: object, **kw: object) -> int | None:
        session.connection().execute(sqlalchemy.update(Batch).values(status=BatchStatus.CANCELLING, stop="cancel"))
        return reset(session, *args, **kw)  # type: ignore[arg-type]

    opened, after = database.write(lambda session: generations._open(session, "local", batch.id, lambda route: 1))
    assert opened is not None and after is not None
    assert database.write(lambda session: cancelled_meanwhile(session, opened, after, lambda route: 1)) is None
    with database.read() as session:
        now = session.exec(select(Batch)).one()
        states = [job.state for job in session.exec(select(Job))]
    assert (now.open, now.failed) == (1, 3)
    assert states.count(JobState.PENDING) == 1
