import itertools

import openai
import pytest
from sqlmodel import Session

from tests import rows
from tests.api.conftest import Server
from worker import output_files
from worker.states import BatchStatus
from worker.tables import Batch


def upload(server: Server, data: bytes = b"{}\n", name: str = "in.jsonl") -> openai.types.FileObject:
    return server.sdk.files.create(file=(name, data), purpose="batch")


def running(session: Session) -> Batch:
    batch = rows.begin(session, rows.add_batch(session))
    for line in (3, 1, 2):
        rows.add_result(session, batch, line)
    rows.add_result(session, batch, 4, kind="error")
    return batch


def test_a_file_goes_in_and_comes_out(server: Server) -> None:
    file = upload(server, b'{"a": 1}\n')
    assert (file.bytes, file.filename, file.purpose, file.status, file.expires_at) == (
        9,
        "in.jsonl",
        "batch",
        "processed",
        None,
    )
    assert server.sdk.files.retrieve(file.id) == file
    answer = server.sdk.files.content(file.id)
    assert answer.read() == b'{"a": 1}\n'
    assert answer.response.headers["content-type"] == "application/octet-stream"
    assert answer.response.headers["content-length"] == "9"


def test_bytes_without_a_name_are_called_upload(server: Server) -> None:
    assert server.sdk.files.create(file=b"{}", purpose="batch").filename == "upload"


def test_an_empty_file_is_a_file(server: Server) -> None:
    file = upload(server, b"")
    assert file.bytes == 0
    assert server.sdk.files.content(file.id).read() == b""


def test_a_deleted_file_is_gone_with_its_bytes(server: Server) -> None:
    file = upload(server)
    assert server.sdk.files.delete(file.id).deleted
    assert server.stored == []
    for gone in (server.sdk.files.retrieve, server.sdk.files.content, server.sdk.files.delete):
        with pytest.raises(openai.NotFoundError) as raised:
            gone(file.id)
        assert raised.value.body == {
            "message": f"No such File object: {file.id}",
            "type": "invalid_request_error",
            "param": "id",
            "code": None,
        }
    assert server.sdk.files.list().data == []


def test_a_file_deleted_under_a_batch_is_hidden_but_keeps_its_bytes(server: Server) -> None:
    file = upload(server)
    server.sdk.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    assert server.sdk.files.delete(file.id).deleted
    assert len(server.stored) == 1
    with pytest.raises(openai.NotFoundError):
        server.sdk.files.retrieve(file.id)


def test_the_sdk_pages_through_everything_once_in_both_orders(server: Server) -> None:
    made = [upload(server).id for _ in range(7)]
    newest = [file.id for file in server.sdk.files.list(limit=3)]
    oldest = [file.id for file in server.sdk.files.list(limit=3, order="asc")]
    assert newest == list(reversed(oldest))
    assert sorted(newest) == sorted(made)


def test_a_page_says_whether_there_is_more(server: Server) -> None:
    for _ in range(3):
        upload(server)
    whole = server.http.get("/v1/files").json()
    assert (whole["object"], whole["has_more"], len(whole["data"])) == ("list", False, 3)
    part = server.http.get("/v1/files?limit=2").json()
    assert part["has_more"] is True
    assert (part["first_id"], part["last_id"]) == (part["data"][0]["id"], part["data"][1]["id"])
    empty = server.http.get("/v1/files?purpose=vision").json()
    assert empty == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


@pytest.mark.parametrize("query", ["limit=0", "limit=10001", "limit=x", "order=up", "after=nothing", "after=%00"])
def test_a_wrong_page_is_400(server: Server, query: str) -> None:
    answer = server.http.get(f"/v1/files?{query}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, query.partition("=")[0])


def test_output_and_error_files_look_like_files(server: Server) -> None:
    batch = server.database.write(lambda session: rows.end(session, running(session)))
    shown = server.sdk.batches.retrieve(batch.id)
    assert shown.output_file_id and shown.error_file_id
    output = server.sdk.files.retrieve(shown.output_file_id)
    assert (output.purpose, output.filename) == ("batch_output", f"{batch.id}_output.jsonl")
    data = server.sdk.files.content(shown.output_file_id).read()
    assert len(data) == output.bytes
    assert [line[8:9] for line in data.splitlines()] == [b"1", b"2", b"3"]
    assert server.sdk.files.content(shown.error_file_id).read().count(b"\n") == 1
    listed = {file.id for file in server.sdk.files.list(purpose="batch_output")}
    assert listed == {shown.output_file_id, shown.error_file_id}


def test_a_running_batch_gives_its_lines_marked_incomplete(server: Server) -> None:
    batch = server.database.write(running)
    assert server.sdk.batches.retrieve(batch.id).output_file_id is None
    path = f"/v1/files/{output_files.file_id(batch, 'output')}/content"
    came, asked, later = (server.http.get(path + query) for query in ("", "?order=line", "?offset=1"))
    for answer, lines in ((came, "312"), (asked, "123"), (later, "12")):
        assert answer.headers["x-incomplete"] == "true"
        assert answer.headers["x-last-line"] == "3"
        assert [line[8:9].decode() for line in answer.content.splitlines()] == list(lines)
    server.database.write(lambda session: rows.end(session, session.merge(batch)))
    done = server.http.get(path)
    assert (done.headers["x-incomplete"], done.content) == ("false", asked.content)
    assert server.http.get(path + "?offset=3").content == b""


def test_an_offset_and_an_order_exclude_each_other(server: Server) -> None:
    batch = server.database.write(running)
    path = f"/v1/files/{output_files.file_id(batch, 'output')}/content?order=line&offset=1"
    assert server.http.get(path).status_code == 400


def test_an_output_file_can_be_deleted_once_its_batch_has_ended(server: Server) -> None:
    batch = server.database.write(running)
    id = output_files.file_id(batch, "output")
    with pytest.raises(openai.ConflictError):
        server.sdk.files.delete(id)
    server.database.write(lambda session: rows.end(session, session.merge(batch), BatchStatus.CANCELLED))
    assert server.sdk.files.delete(id).deleted
    with pytest.raises(openai.NotFoundError):
        server.sdk.files.content(id)


def test_a_large_output_streams_in_order(server: Server) -> None:
    def many(session: Session) -> Batch:
        batch = rows.begin(session, rows.add_batch(session))
        for line in itertools.chain(range(2_500, 0, -2), range(1, 2_500, 2)):
            rows.add_result(session, batch, line)
        return rows.end(session, batch)

    batch = server.database.write(many)
    data = server.sdk.files.content(output_files.file_id(batch, "output")).read()
    assert data == b"".join(b'{"line":%d,"generation":1}\n' % line for line in range(1, 2_501))
