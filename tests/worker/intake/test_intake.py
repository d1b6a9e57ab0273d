import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import Session

from providers.pricing import PriceBook
from tests import grist, rows, truth
from worker import config, settings, tables
from worker.blobs import Blobs
from worker.catalog import Catalog
from worker.database import Database, DatabaseAway
from worker.intake import intake, reader
from worker.intake.intake import Intake
from worker.routes import Routes
from worker.states import JobState, SliceState
from worker.store import api_keys, batches
from worker.store import intake as store
from worker.tables import JOB, RESULT, SLICE, TALLY, LineError

CONFIG = """
providers:
  mill: {base_url: 'http://127.0.0.1:9/v1'}
  slow: {base_url: 'http://127.0.0.1:9/v1', rpm: 3}
  locked: {base_url: 'http://127.0.0.1:9/v1', api_key: '${LOCKED_API_KEY}'}
prices:
  mill/flour: {input: 1.0, output: 2.0}
"""
ERRORS = LineError.__table__  # type: ignore[attr-defined]
URL = "/v1/chat/completions"
MEGABYTE = 1 << 20


class Mill:
    """Intake over a real file store."""

    def __init__(self, database: Database, home: Path) -> None:
        self.database = database
        self.blobs = Blobs(home / "files")
        loaded, parsed = settings.load(), config.parse(CONFIG)
        prices = PriceBook({name: section.model_dump() for name, section in parsed.prices.items()})
        self.catalog = Catalog(parsed, Routes(parsed, loaded), prices, loaded)

    def intake(self, *, openai_limits: bool = False) -> Intake:
        return Intake(database=self.database, blobs=self.blobs, catalog=self.catalog, openai_limits=openai_limits)

    def submit(self, content: bytes, **columns: Any) -> int:
        def create(session: Session) -> tables.Batch:
            batch = rows.add_batch(session)
            for name, value in columns.items():
                setattr(batch, name, value)
            session.flush()
            return batch

        batch = self.database.write(create)
        assert batch.number is not None
        with self.blobs.create(batch.input_file_id) as upload:
            upload.write(content)
            upload.finish()
        return batch.number

    def take_in(self, content: bytes, **columns: Any) -> int:
        number = self.submit(content, **columns)
        self.intake().take_in(number)
        return number

    def jobs(self, number: int) -> list[Any]:
        first, last = tables.job_id(number, 0), tables.job_id(number + 1, 0) - 1
        return list(grist.all_of(self.database, JOB, JOB.c.id.between(first, last)))

    def faults(self, number: int) -> list[tuple[int, str]]:
        return [(row.line, row.code) for row in grist.all_of(self.database, ERRORS, ERRORS.c.batch == number)]

    def status(self, number: int) -> str:
        return grist.batch(self.database, number).status


@pytest.fixture
def mill(database: Database, home: Path) -> Mill:
    return Mill(database, home)


def line(custom_id: str, model: str = "mill/flour", content: str = "hello", **changes: Any) -> bytes:
    body = {"model": model, "messages": [{"role": "user", "content": content}]}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": URL, "body": body, **changes}).encode()


def lines(count: int, **changes: Any) -> bytes:
    return b"".join(line(f"line-{i}", **changes) + b"\n" for i in range(1, count + 1))


def test_a_file_becomes_jobs_and_slices(mill: Mill, database: Database) -> None:
    content = lines(450)
    number = mill.take_in(content)
    batch = grist.batch(database, number)
    assert (batch.status, batch.total, batch.open, batch.model) == ("in_progress", 450, 450, "mill/flour")
    assert batch.in_progress_at is not None and batch.due_at is not None
    assert [(row.first_line, row.jobs, row.state) for row in grist.slices_of(database, number)] == [
        (1, 200, SliceState.READY),
        (201, 200, SliceState.READY),
        (401, 50, SliceState.READY),
    ]
    for job in mill.jobs(number):
        body = json.loads(content[job.offset : job.offset + job.length])
        assert body["messages"][0]["content"] == "hello"
    truth.check(database)


def test_offsets_hold_behind_a_byte_order_mark_blank_lines_and_other_alphabets(mill: Mill) -> None:
    texts = ["ä", "€uro", "😀", "плюс", "plain"]
    raw = [json.dumps(json.loads(line(f"ключ-{i}", content=text)), ensure_ascii=False) for i, text in enumerate(texts)]
    content = ("\ufeff" + "\r\n\n  \r\n".join(raw)).encode()
    number = mill.take_in(content)
    jobs = mill.jobs(number)
    assert mill.status(number) == "in_progress"
    assert [tables.job_line(job.id) for job in jobs] == [1, 4, 7, 10, 13]
    for job, text in zip(jobs, texts, strict=True):
        body = content[job.offset : job.offset + job.length]
        assert json.loads(body)["messages"][0]["content"] == text
        assert body[job.model_offset : job.model_offset + job.model_length] == b'"mill/flour"'


def test_every_bad_line_is_listed_and_nothing_runs(mill: Mill, database: Database) -> None:
    bad = [
        line("ok-1"),
        b"not json",
        line("caf").replace(b"hello", b"caf\xe9"),
        line("ok-1"),
        line("m", method="GET"),
        line("u", url="/v2"),
        line("x", customid="x"),
        line("n", "nowhere/model"),
        line("s", body={"model": "mill/flour", "messages": [], "stream": True}),
        line("k", "locked/model"),
        line("ok-2"),
    ]
    number = mill.take_in(b"\n".join(bad))
    assert mill.faults(number) == [
        (2, "invalid_json_line"),
        (3, "invalid_utf8"),
        (4, "duplicate_custom_id"),
        (5, "invalid_method"),
        (6, "invalid_url"),
        (7, "unknown_parameter"),
        (8, "model_not_found"),
        (9, "stream_not_supported"),
        (10, "missing_api_key"),
    ]
    batch = grist.batch(database, number)
    assert (batch.status, batch.total, batch.open, batch.failed, batch.invalid) == ("failed", 0, 0, 0, 9)
    assert batch.failed_at is not None and mill.jobs(number) == []
    assert grist.all_of(database, SLICE) == grist.all_of(database, TALLY) == []


def test_bad_lines_may_be_reported_while_the_good_ones_run(mill: Mill, database: Database) -> None:
    number = mill.take_in(line("a") + b"\nbad\n" + line("b", "nowhere/model") + b"\n", invalid_lines="report")
    batch = grist.batch(database, number)
    assert (batch.status, batch.total, batch.open, batch.failed, batch.seq) == ("in_progress", 3, 1, 2, 2)
    assert [job.state for job in mill.jobs(number)] == [JobState.PENDING, JobState.FAILED, JobState.FAILED]
    first, second = [json.loads(row.line) for row in grist.all_of(database, RESULT)]
    assert (first["custom_id"], first["response"]["body"]["error"]["code"]) == (None, "invalid_json_line")
    assert (second["custom_id"], second["response"]["status_code"]) == ("b", 400)
    truth.check(database)


@pytest.mark.parametrize("report", ["fail", "report"])
@pytest.mark.parametrize("content", [b"", b"\n\n", b" \r\n\t\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n"])
def test_a_file_without_lines_fails(mill: Mill, content: bytes, report: str) -> None:
    number = mill.take_in(content, invalid_lines=report)
    assert (mill.status(number), mill.faults(number)) == ("failed", [(0, "empty_file")])


def test_a_file_of_bad_lines_only_is_not_called_empty(mill: Mill) -> None:
    number = mill.take_in(b"x\ny\n")
    assert mill.faults(number) == [(1, "invalid_json_line"), (2, "invalid_json_line")]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_a_file_in_another_encoding_fails_with_its_lines(mill: Mill, encoding: str) -> None:
    number = mill.take_in(lines(2).decode().encode(encoding))
    assert mill.status(number) == "failed"
    assert {code for _, code in mill.faults(number)} <= {"invalid_utf8", "invalid_json_line"}


@pytest.mark.parametrize("key", ["\0", "\ud800", "x" * 100_000, "\\", "'"])
def test_whatever_a_key_is_the_fault_is_stored(mill: Mill, database: Database, key: str) -> None:
    number = mill.take_in(
        line("a", "mill/flour", "hello", **{key: 1})
        + b"\n"
        + line("b", body={"model": f"nowhere/{key}", "messages": []})
    )
    assert [number for number, _ in mill.faults(number)] == [1, 2]
    assert all(len(row.message) <= 1_000 for row in grist.all_of(database, ERRORS))


def test_a_key_that_stands_twice_in_a_body_is_a_fault(mill: Mill) -> None:
    number = mill.take_in(line("a").replace(b'"messages"', b'"model": "mill/rye", "messages"'))
    assert mill.faults(number) == [(1, "invalid_json_line")]


def test_long_lines_are_fine_and_longer_ones_are_skipped(mill: Mill, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "LONGEST", 6 * MEGABYTE)
    content = b"\n".join(
        [line("a", content="x" * 5 * MEGABYTE), line("b", content="y" * 8 * MEGABYTE), line("c"), b"z" * 14 * MEGABYTE]
    )
    number = mill.take_in(content, invalid_lines="report")
    assert mill.faults(number) == [(2, "line_too_long"), (4, "line_too_long")]
    first, _, third, _ = mill.jobs(number)
    assert first.length > 5 * MEGABYTE
    assert json.loads(content[third.offset : third.offset + third.length])["messages"][0]["content"] == "hello"


def test_lines_meet_the_chunks_of_the_file_store_anywhere(mill: Mill) -> None:
    content = b"".join(line(f"id-{i}", content="x" * (300_000 + i)) + b"\n" for i in range(12))
    number = mill.take_in(content)
    for place, job in enumerate(mill.jobs(number)):
        body = json.loads(content[job.offset : job.offset + job.length])
        assert len(body["messages"][0]["content"]) == 300_000 + place


def fail_at(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """The database goes away before this chunk."""
    count, append = 0, store.append

    def broken(*arguments: Any, **more: Any) -> None:
        nonlocal count
        count += 1
        if count == at:
            raise DatabaseAway("gone")
        append(*arguments, **more)

    monkeypatch.setattr(store, "append", broken)


def test_an_interrupted_intake_goes_on_at_its_cursor(
    mill: Mill, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "CHUNK_LINES", 3)
    fail_at(monkeypatch, 3)
    content = b"\xef\xbb\xbf" + lines(4) + b"\n" + line("line-2") + b"\r\n" + line("line-5") + b"\n" + line("line-5")
    number = mill.submit(content, invalid_lines="report")
    with pytest.raises(DatabaseAway):
        mill.intake().take_in(number)
    halfway = grist.batch(database, number)
    assert (halfway.status, halfway.intake_line) == ("validating", 6)
    mill.intake().take_in(number)
    batch = grist.batch(database, number)
    assert (batch.status, batch.open, batch.total, batch.intake_offset) == ("in_progress", 5, 7, len(content))
    assert mill.faults(number) == [(6, "duplicate_custom_id"), (8, "duplicate_custom_id")]
    truth.check(database)


def test_a_duplicate_of_a_line_before_the_restart_is_found(mill: Mill, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "CHUNK_LINES", 2)
    fail_at(monkeypatch, 2)
    number = mill.submit(lines(3) + line("line-1"))
    with pytest.raises(DatabaseAway):
        mill.intake().take_in(number)
    mill.intake().take_in(number)
    assert mill.faults(number) == [(4, "duplicate_custom_id")]


def test_two_intakes_at_once_take_in_every_line_once(
    mill: Mill, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "CHUNK_LINES", 5)
    number = mill.submit(lines(200))
    both = threading.Barrier(3)

    def take_in(_: int) -> None:
        both.wait()
        mill.intake().take_in(number)

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(take_in, range(3)))
    mill.intake().take_in(number)
    assert (mill.status(number), len(mill.jobs(number))) == ("in_progress", 200)
    truth.check(database)


def test_taking_in_again_changes_nothing(mill: Mill, database: Database) -> None:
    for content in (lines(3), b"bad"):
        number = mill.take_in(content)
        before = grist.batch(database, number)
        mill.intake().take_in(number)
        assert grist.batch(database, number) == before


@pytest.mark.parametrize("report", ["fail", "report"])
def test_a_cancel_in_the_middle_ends_what_was_taken_in(
    mill: Mill, database: Database, monkeypatch: pytest.MonkeyPatch, report: str
) -> None:
    monkeypatch.setattr(intake, "CHUNK_LINES", 2)
    fail_at(monkeypatch, 3)
    number = mill.submit(line("a") + b"\nbad\n" + lines(9), invalid_lines=report)
    with pytest.raises(DatabaseAway):
        mill.intake().take_in(number)
    id = grist.batch(database, number).id
    database.write(lambda session: batches.request_cancel(session, "local", id))
    mill.intake().take_in(number)
    assert grist.settle(database, number) == "cancelled"
    truth.check(database)


def test_a_cancel_between_two_chunks_stops_the_intake(
    mill: Mill, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "CHUNK_LINES", 2)
    append = store.append
    number = mill.submit(lines(9))
    id = grist.batch(database, number).id

    def cancelled(session: Session, batch: tables.Batch, chunk: Any) -> None:
        append(session, batch, chunk)
        if chunk.next_line == 4:
            batches.request_cancel(session, "local", id)

    monkeypatch.setattr(store, "append", cancelled)
    mill.intake().take_in(number)
    assert len(mill.jobs(number)) == 4
    assert grist.settle(database, number) == "cancelled"
    truth.check(database)


def test_openai_limits_are_kept_when_asked_for(mill: Mill, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "OPENAI_LINES", 2)
    few, many = mill.submit(lines(2)), mill.submit(lines(3))
    for number in (few, many):
        mill.intake(openai_limits=True).take_in(number)
    assert (mill.status(few), mill.status(many)) == ("in_progress", "failed")
    assert mill.faults(many) == [(0, "too_many_tasks")]


def test_a_file_that_cannot_be_read_fails_the_batch(mill: Mill, database: Database) -> None:
    number = mill.submit(lines(2))
    mill.blobs.remove(grist.batch(database, number).input_file_id)
    mill.intake().take_in(number)
    assert mill.status(number) == "failed"
    assert mill.faults(number)[0] == (0, "file_unreadable")


def test_models_have_their_own_slices_sizes_and_sums(mill: Mill, database: Database) -> None:
    content = b"".join(line(f"{i}", ["mill/flour", "slow/rye"][i % 2]) + b"\n" for i in range(10))
    number = mill.take_in(content)
    slices = grist.slices_of(database, number)
    assert sorted((row.route, row.jobs) for row in slices) == [("mill/flour", 5), ("slow/rye", 2), ("slow/rye", 3)]
    known, unknown = grist.tally(database, number, "mill/flour"), grist.tally(database, number, "slow/rye")
    assert (known.lines, known.input_price, known.output_price) == (5, 1_000_000, 2_000_000)
    assert (unknown.lines, unknown.input_price, unknown.output_price) == (5, None, None)
    assert known.estimated_output_tokens == 5 * 400
    assert grist.batch(database, number).model is None
    truth.check(database)


@pytest.mark.parametrize("same", [lambda i: "same", lambda i: f"id-{i % 5_000}"])
def test_duplicates_among_many_are_all_found(mill: Mill, same: Callable[[int], str]) -> None:
    count = 6_000
    ids = [same(i) for i in range(count)]
    number = mill.take_in(b"\n".join(line(id) for id in ids))
    assert len(mill.faults(number)) == count - len(set(ids))


def test_requests_of_a_message_batch_are_refused_one_by_one_in_its_format(mill: Mill) -> None:
    good = {"model": "mill/flour", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
    bodies = {"good": good, "no-model": {**good, "model": "no/where"}, "no-limit": {**good, "max_tokens": ...}}
    lines = [
        {"custom_id": id, "method": "POST", "url": "/v1/messages", "body": {k: v for k, v in b.items() if v is not ...}}
        for id, b in bodies.items()
    ]
    content = b"".join(json.dumps(one).encode() + b"\n" for one in lines)
    number = mill.take_in(content, kind="messages", invalid_lines="report")
    assert [JobState(job.state) for job in mill.jobs(number)] == [JobState.PENDING, JobState.FAILED, JobState.FAILED]
    assert mill.jobs(number)[0].endpoint == "messages"
    results = [json.loads(row.line) for row in grist.all_of(mill.database, RESULT, RESULT.c.batch == number)]
    assert [(one["custom_id"], one["result"]["error"]["error"]["type"]) for one in results] == [
        ("no-model", "not_found_error"),
        ("no-limit", "invalid_request_error"),
    ]


def test_a_batch_that_its_key_cannot_pay_fails_if_the_key_refuses(mill: Mill, database: Database) -> None:
    rules: api_keys.Rules = {"budget_day": 1, "over_budget": "refuse"}
    key, _ = database.write(lambda session: api_keys.create(session, "ann", "ann", **rules))
    number = mill.take_in(lines(3), api_key=key.id)
    assert (mill.status(number), mill.faults(number)) == ("failed", [(0, "budget_exceeded")])
    database.write(lambda session: api_keys.change(session, key.id, over_budget="pause"))
    assert mill.status(mill.take_in(lines(3), api_key=key.id)) == "in_progress"


def test_a_model_that_the_key_may_not_use_is_a_fault_of_its_line(mill: Mill, database: Database) -> None:
    key, _ = database.write(lambda session: api_keys.create(session, "ann", "ann", models=["mill/*"]))
    number = mill.take_in(line("a") + b"\n" + line("b", model="slow/steady"), api_key=key.id)
    assert (mill.status(number), mill.faults(number)) == ("failed", [(2, "model_not_allowed")])
    assert mill.status(mill.take_in(line("b", model="slow/steady"))) == "in_progress"


def test_a_message_batch_that_is_cancelled_before_it_was_read_has_a_result_of_each_request(mill: Mill) -> None:
    good = {"model": "mill/flour", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
    lines = [{"custom_id": f"r-{n}", "method": "POST", "url": "/v1/messages", "body": good} for n in range(3)]
    content = b"".join(json.dumps(one).encode() + b"\n" for one in lines)
    number = mill.submit(content, kind="messages", invalid_lines="report")
    id = grist.batch(mill.database, number).id
    for _ in range(2):
        mill.database.write(lambda session: batches.request_cancel(session, "local", id))
    assert mill.status(number) == "validating"
    mill.intake().take_in(number)
    assert mill.status(number) == "cancelling"
    assert grist.settle(mill.database, number) == "cancelled"
    results = [json.loads(row.line) for row in grist.all_of(mill.database, RESULT, RESULT.c.batch == number)]
    assert [one["result"]["type"] for one in results] == ["canceled"] * 3
