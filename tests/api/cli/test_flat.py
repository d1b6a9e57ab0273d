"""Against the real application: only the engine behind it is missing."""

import array
import base64
import csv
import io
import json
import struct
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from click.testing import CliRunner, Result
from sqlmodel import Session

from api.cli import faults, flat, parquet, results
from tests import grist
from tests.api.conftest import Serve, Server, serve, stage  # noqa: F401  (the real server, not this folder's fake)
from tests.grist import Worker
from worker import message_line, output_line
from worker.states import Outcome
from worker.store import batches
from worker.tables import Batch


@pytest.fixture
def real(serve: Serve) -> Server:  # noqa: F811
    return serve()


def chat(text: str | None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": {"content": text}, "finish_reason": "stop"}], **more}


def embedding(*vectors: Any) -> dict[str, Any]:
    return {"data": [{"index": place, "embedding": vector} for place, vector in enumerate(vectors)]}


def batch_of(real: Server, *bodies: dict[str, Any] | None) -> str:
    """A batch whose lines were answered so; None failed, and one more line waits."""
    number = grist.add(real.database, len(bodies) + 1)
    claim = Worker(real.database).begin(grist.slices_of(real.database, number)[0].id)
    for job, body in zip(claim.jobs, bodies, strict=False):
        if body is None:
            error = b'{"error":{"message":"too odd","code":"bad_request"}}'
            line = output_line.answered(job.id, job.custom_id, 400, None, error)
            end = grist.end(claim, job, Outcome.FAILED, status_code=400, line=line)
        else:
            line = output_line.answered(job.id, job.custom_id, 200, "req", json.dumps(body).encode())
            end = grist.end(claim, job, status_code=200, line=line, model="flour-2", ending="complete")
        Worker(real.database).record(end)
    return grist.batch(real.database, number).id


def give_input(real: Server, batch: str, *, metadata: Any = None) -> bytes:
    """The batch's file: line 1 has metadata."""
    requests = [
        {"custom_id": f"line-{number}", "body": {"model": "mill/flour", "input": number}, **extra}
        for number, extra in ((1, {"metadata": metadata}), (2, {}), (3, {}))
    ]
    content = b"".join(json.dumps(request).encode() + b"\n" for request in requests)

    def file_of(session: Session) -> str:
        row = batches.get(session, "local", batch)
        assert isinstance(row, Batch)
        return row.input_file_id

    with real.database.read() as session:
        name = file_of(session)
    with real.services.blobs.create(name) as upload:
        upload.write(content)
        upload.finish()
    return content


def command(real: Server, *arguments: str | Path) -> Result:
    return CliRunner().invoke(results.results, [*map(str, arguments), "--server", real.url])


def test_rows_tell_everything_of_every_line(real: Server) -> None:
    batch = batch_of(real, chat("four"), None)
    give_input(real, batch, metadata={"topic": "sums"})
    answer = real.http.get(f"/v1/batches/{batch}/rows")
    first, second, third = (json.loads(line) for line in answer.text.splitlines())
    assert (answer.headers["content-type"], answer.headers["x-incomplete"]) == ("application/x-ndjson", "true")
    assert list(first) == list(parquet.COLUMNS)
    assert (first["line"], first["custom_id"], first["model"], first["served_model"], first["provider"]) == (
        1,
        "line-1",
        "mill/flour",
        "flour-2",
        "mill",
    )
    assert (first["text"], first["finish_reason"], first["metadata"]) == ("four", "stop", {"topic": "sums"})
    assert (first["input_tokens"], first["cost_usd"], first["attempts"], first["service_ms"]) == (11, 25e-12, 1, 500)
    assert (second["state"], second["error_code"], second["error_message"]) == ("failed", "bad_request", "too odd")
    assert (third["state"], third["text"], third["metadata"], third["queue_ms"]) == ("pending", None, None, None)


def test_rows_of_a_message_batch_tell_as_much(real: Server) -> None:
    number = grist.add(real.database, 3, kind="messages")
    claim = Worker(real.database).begin(grist.slices_of(real.database, number)[0].id)
    said = [{"type": "text", "text": "fo"}, {"type": "tool_use"}, {"type": "text", "text": "ur"}]
    message = {"type": "message", "content": said, "stop_reason": "end_turn"}
    good = message_line.succeeded("line-1", json.dumps(message).encode())
    bad = message_line.errored("line-2", 400, "bad_request", "too odd", None)
    Worker(real.database).record(
        grist.end(claim, claim.jobs[0], line=good), grist.end(claim, claim.jobs[1], Outcome.FAILED, line=bad)
    )
    answer = real.http.get(f"/v1/batches/{grist.batch(real.database, number).id}/rows")
    first, second, third = (json.loads(line) for line in answer.text.splitlines())
    assert (first["text"], first["finish_reason"]) == ("four", "end_turn")
    assert (second["error_code"], second["error_message"], second["text"]) == ("bad_request", "too odd", None)
    assert third["state"] == "pending"


def test_rows_of_pages_join_without_gap(real: Server) -> None:
    number = grist.add(real.database, 120, 130)
    found = real.http.get(f"/v1/batches/{grist.batch(real.database, number).id}/rows").text.splitlines()
    assert [json.loads(line)["line"] for line in found] == list(range(1, 251))


def test_rows_of_another_owner_are_not_found(real: Server) -> None:
    number = grist.add(real.database, 1, owner="other")
    assert real.http.get(f"/v1/batches/{grist.batch(real.database, number).id}/rows").status_code == 404


def test_csv_reads_back_and_holds_no_formula(real: Server, tmp_path: Path) -> None:
    texts = ['=cmd|"/c calc"!A1', 'two\r\nlines, "quoted"\u2028and', "-1", "plain"]
    batch = batch_of(real, *map(chat, texts))
    command(real, batch, "--flat", "csv", "-o", tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert [row["text"] for row in found] == ["'" + texts[0], texts[1], "'-1", "plain", ""]
    assert found[0]["cost_usd"] == "2.5e-11"


def test_jsonl_goes_to_standard_output(real: Server) -> None:
    done = command(real, batch_of(real, chat("a")), "--flat", "jsonl")
    assert [json.loads(line)["text"] for line in done.stdout.splitlines()] == ["a", None]


def test_join_adds_what_was_asked(real: Server, tmp_path: Path) -> None:
    batch = batch_of(real, chat("a"), chat("b"))
    file = tmp_path / "in.jsonl"
    file.write_bytes(give_input(real, batch, metadata={"k": [1]}))
    done = command(real, batch, "--flat", "csv", "--join", file)
    found = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [json.loads(row["request"])["input"] for row in found] == [1, 2, 3]
    assert json.loads(found[0]["metadata"]) == {"k": [1]}


def test_join_refuses_another_file(tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text('{"custom_id": "other", "body": {}}\n')
    with pytest.raises(faults.UsageFault, match="line 1 is not 'line-1'"):
        list(flat.joined([{"line": 1, "custom_id": "line-1", "metadata": None}], file))


def test_parquet_keeps_types_and_nothing_known(real: Server, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    command(real, batch_of(real, chat("a"), None), "--flat", "parquet", "-o", out)
    table = pyarrow.parquet.read_table(out)
    assert {field.name: str(field.type).replace("double", "float64") for field in table.schema} == parquet.COLUMNS
    assert table.column("text").to_pylist() == ["a", None, None]
    assert table.column("output_tokens").to_pylist() == [7, 0, 0]


def test_without_pyarrow_the_command_says_what_to_install(
    real: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    done = command(real, batch_of(real, chat("a")), "--flat", "parquet", "-o", tmp_path / "x.parquet")
    assert parquet.INSTALL in str(done.exception)
    assert list(tmp_path.glob("*.parquet")) == []


def test_embeddings_become_one_array(real: Server, tmp_path: Path) -> None:
    packed = base64.b64encode(struct.pack("<2f", 5, 6)).decode()
    batch = batch_of(real, embedding([1, 2.5], [3, 4]), embedding(packed))
    out = tmp_path / "vectors.npy"
    command(real, batch, "--flat", "npy", "-o", out)
    data = out.read_bytes()
    size = 10 + int.from_bytes(data[8:10], "little")
    assert (data[:8], size % 64) == (b"\x93NUMPY\x01\x00", 0)
    assert b"'descr': '<f4', 'fortran_order': False, 'shape': (3, 2)" in data[:size]
    assert array.array("f", data[size:]).tolist() == [1, 2.5, 3, 4, 5, 6]
    assert json.loads((tmp_path / "vectors.npy.ids.json").read_text()) == ["line-1", "line-1", "line-2"]


def test_vectors_of_different_length_are_refused(real: Server, tmp_path: Path) -> None:
    batch = batch_of(real, embedding([1, 2]), embedding([1, 2, 3]))
    done = command(real, batch, "--flat", "npy", "-o", tmp_path / "vectors.npy")
    assert "'line-2' has a vector of 3 numbers" in str(done.exception)
    assert list(tmp_path.glob("vectors*")) == []


@pytest.mark.parametrize("form", flat.BINARY)
def test_what_is_not_text_needs_a_file(real: Server, form: str) -> None:
    assert "say where to write it" in str(command(real, batch_of(real, chat("a")), "--flat", form).exception)
