import dataclasses
import tracemalloc

import pytest
from sqlmodel import Session

from tests import grist, rows
from worker import output_files, states
from worker.database import Database
from worker.output_files import Kind, OutputFile, Unfinished
from worker.states import BatchStatus
from worker.store import batches
from worker.store.listing import Entry
from worker.tables import Batch


def find(database: Database, batch: Batch, kind: Kind = "output", generation: int | None = None) -> OutputFile | None:
    with database.read() as session:
        return output_files.find(session, "local", output_files.file_id(batch, kind, generation))


def read(database: Database, file: OutputFile | None) -> bytes:
    assert file is not None
    return b"".join(output_files.in_line_order(database, file))


def running(session: Session, lines: dict[int, str]) -> tuple[Batch, dict[int, bytes]]:
    batch = rows.begin(session, rows.add_batch(session))
    return batch, {line: rows.add_result(session, batch, line, kind=kind) for line, kind in lines.items()}


def test_lines_stand_in_input_order_whatever_order_they_came_in(database: Database) -> None:
    batch, stored = database.write(lambda s: running(s, {3: "output", 1: "output", 4: "error", 2: "output"}))
    database.write(lambda session: rows.end(session, session.merge(batch)))
    output, error = find(database, batch), find(database, batch, "error")
    assert read(database, output) == stored[1] + stored[2] + stored[3]
    assert read(database, error) == stored[4]
    assert output is not None and output.complete and output.entry.bytes == len(read(database, output))
    assert output.entry.filename == f"{batch.id}_output.jsonl"


def test_a_follower_reads_lines_as_they_came_and_goes_on_where_it_stopped(database: Database) -> None:
    batch, stored = database.write(lambda session: running(session, {3: "output", 4: "error", 1: "output"}))
    file = find(database, batch)
    assert file is not None and not file.complete
    assert b"".join(output_files.in_commit_order(database, file)) == stored[3] + stored[1]
    more = database.write(lambda session: rows.add_result(session, session.merge(batch), 2))
    later = find(database, batch)
    assert later is not None
    assert b"".join(output_files.in_commit_order(database, later, offset=file.lines)) == more


def test_a_snapshot_does_not_grow_while_it_is_read(database: Database) -> None:
    batch, stored = database.write(lambda session: running(session, {2: "output"}))
    file = find(database, batch)
    database.write(lambda session: rows.add_result(session, session.merge(batch), 1))
    assert read(database, file) == stored[2]


def test_a_batch_of_other_numbers_never_leaks_in(database: Database) -> None:
    batches = [database.write(lambda session: running(session, {1: "output", 2: "output"})) for _ in range(3)]
    for batch, stored in batches:
        assert read(database, find(database, batch)) == stored[1] + stored[2]


def test_old_generations_keep_their_bytes(database: Database) -> None:
    def two_generations(session: Session) -> Batch:
        batch = rows.begin(session, rows.add_batch(session))
        rows.add_result(session, batch, 1)
        rows.add_result(session, batch, 2, kind="error", superseded_in=2)
        rows.add_result(session, batch, 3, kind="error", superseded_in=2)
        batch.generation = 2
        rows.add_result(session, batch, 2, generation=2)
        rows.add_result(session, batch, 3, kind="error", generation=2)
        return rows.end(session, batch)

    batch = database.write(two_generations)
    first, second = b'{"line":1,"generation":1}\n', b'{"line":2,"generation":2}\n'
    assert read(database, find(database, batch, "output", 1)) == first
    assert read(database, find(database, batch, "output", 2)) == first + second
    assert read(database, find(database, batch, "error", 1)).count(b'"generation":1') == 2
    assert read(database, find(database, batch, "error", 2)) == b'{"line":3,"generation":2}\n'
    for kind in output_files.KINDS.values():
        for generation in (1, 2):
            file = find(database, batch, kind, generation)
            assert file is not None and file.complete
            assert file.entry.bytes == len(read(database, file))
            assert file.lines == read(database, file).count(b"\n")
    assert find(database, batch, "output", 3) is None


def test_a_file_without_lines_is_none(database: Database) -> None:
    batch, _ = database.write(lambda session: running(session, {1: "output"}))
    assert find(database, batch, "error") is not None
    database.write(lambda session: rows.end(session, session.merge(batch), BatchStatus.CANCELLED))
    assert find(database, batch, "error") is None


def test_a_file_that_is_still_written_cannot_be_deleted(database: Database) -> None:
    batch, _ = database.write(lambda session: running(session, {1: "output"}))
    id = output_files.file_id(batch, "output")
    with pytest.raises(Unfinished):
        database.write(lambda session: output_files.delete(session, "local", id))
    database.write(lambda session: rows.end(session, session.merge(batch)))
    assert database.write(lambda session: output_files.delete(session, "local", id))
    assert find(database, batch) is None


def test_an_output_file_expires_when_the_batch_asked_for_it(database: Database) -> None:
    batch, _ = database.write(lambda session: running(session, {1: "output"}))

    def ended_long_ago(session: Session) -> Entry | None:
        row = rows.end(session, session.merge(batch))
        row.output_expires_after = 3_600
        session.flush()
        file = output_files.find(session, "local", output_files.file_id(row, "output"))
        assert row.completed_at is not None
        row.completed_at -= 7_200
        return file.entry if file else None

    entry = database.write(ended_long_ago)
    assert entry is not None and entry.expires_at == entry.created_at + 3_600
    assert find(database, batch) is None


def test_ids_of_strangers_and_garbage_are_nothing(database: Database) -> None:
    batch, _ = database.write(lambda session: running(session, {1: "output"}))
    with database.read() as session:
        assert output_files.find(session, "other", output_files.file_id(batch, "output")) is None
        for id in ("", "file-", "file-o1", f"file-{'a' * 24}o1", f"file-{'a' * 24}o0", f"file-{'a' * 24}o99999999999"):
            assert output_files.find(session, "local", id) is None


def test_memory_stays_flat_however_long_the_lines_are(database: Database) -> None:
    line = b"x" * (1 << 20) + b"\n"

    def long_lines(session: Session) -> Batch:
        batch = rows.begin(session, rows.add_batch(session))
        for number in range(1, 41):
            rows.add_result(session, batch, number, text=line)
        return rows.end(session, batch)

    file = find(database, database.write(long_lines))
    assert file is not None
    tracemalloc.start()
    total = sum(map(len, output_files.in_line_order(database, file)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == 40 * len(line) == file.entry.bytes
    assert peak < 5 * output_files.CHUNK


@pytest.mark.parametrize("order", ["line", "commit"])
def test_pages_of_a_file_are_read_by_an_index(database: Database, order: str) -> None:
    where = "job > 1 AND job < 9 ORDER BY job" if order == "line" else "batch = 1 AND seq > 5 ORDER BY seq"
    plan = grist.plan(database, f"SELECT line FROM result WHERE {where} LIMIT 1000")
    assert "SCAN" not in plan and "Seq Scan" not in plan and "Sort" not in plan and "TEMP B-TREE" not in plan, plan


def test_files_and_the_whole_of_a_message_batch(database: Database) -> None:
    def create(session: Session) -> tuple[Batch, list[bytes]]:
        made = rows.new_batch(rows.add_file(session))
        batch, _ = batches.create(session, dataclasses.replace(made, kind=states.Kind.MESSAGES))
        rows.begin(session, batch)
        lines = {3: "output", 1: "error", 2: "output"}
        return batch, [rows.add_result(session, batch, line, kind=kind) for line, kind in lines.items()]

    batch, (third, first, second) = database.write(create)
    database.write(lambda session: rows.end(session, session.merge(batch)))
    assert batch.id.startswith("msgbatch_")
    assert read(database, find(database, batch)) == second + third
    assert read(database, find(database, batch, "error")) == first
    assert b"".join(output_files.whole(database, batch)) == first + second + third
