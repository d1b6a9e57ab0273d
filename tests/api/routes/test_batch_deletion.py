from tests import grist, rows
from tests.api.conftest import Server
from tests.grist import Worker
from worker import erasure
from worker.tables import Batch


def completed(server: Server) -> Batch:
    number = grist.add(server.database, 2)
    worker = Worker(server.database)
    claim = worker.begin(grist.slices_of(server.database, number)[0].id)
    worker.record(*(grist.end(claim, job) for job in claim.jobs))
    assert grist.settle(server.database, number) == "completed"
    return grist.batch(server.database, number)


def test_a_deleted_batch_is_gone_from_every_answer(server: Server) -> None:
    batch = completed(server)
    output = server.http.get(f"/v1/batches/{batch.id}").json()["output_file_id"]
    usage = server.http.get("/v1/usage").json()
    answer = server.http.delete(f"/v1/batches/{batch.id}")
    assert answer.json() == {"id": batch.id, "object": "batch", "deleted": True}
    for path in ("", "/jobs", "/rows", "/errors", "/events"):
        assert server.http.get(f"/v1/batches/{batch.id}{path}").status_code == 404
    assert server.http.get(f"/v1/files/{output}/content").status_code == 404
    assert server.http.delete(f"/v1/batches/{batch.id}").status_code == 404
    assert server.http.get("/v1/batches").json()["data"] == []
    assert [file["id"] for file in server.http.get("/v1/files").json()["data"]] == [batch.input_file_id]
    while erasure.erase_deleted(server.database):
        continue
    assert server.http.get("/v1/usage").json() == usage


def test_its_input_file_goes_if_that_is_asked(server: Server) -> None:
    batch = completed(server)
    server.http.delete(f"/v1/batches/{batch.id}", params={"files": "true"}).raise_for_status()
    assert server.http.get("/v1/files").json()["data"] == []


def test_a_batch_that_runs_cannot_be_deleted(server: Server) -> None:
    id = grist.batch(server.database, grist.add(server.database, 2)).id
    answer = server.http.delete(f"/v1/batches/{id}")
    assert answer.status_code == 409
    assert answer.json()["error"]["message"] == (
        "Cannot delete a batch with status 'in_progress': cancel it and wait until it has ended."
    )


def test_a_create_sent_again_after_a_deletion_makes_a_new_batch(server: Server) -> None:
    batch = completed(server)
    body = {"input_file_id": batch.input_file_id, "endpoint": "/v1/embeddings", "completion_window": "24h"}
    resent = {"x-stainless-retry-count": "1"}
    first = server.http.post("/v1/batches", json=body).json()["id"]
    grist.change(server.database, (batch.number or 0) + 1, status="completed", completed_at=1.0)
    assert server.http.post("/v1/batches", json=body, headers=resent).json()["id"] == first
    server.http.delete(f"/v1/batches/{first}").raise_for_status()
    assert server.http.post("/v1/batches", json=body, headers=resent).json()["id"] != first


def test_another_owner_finds_nothing_to_delete(server: Server) -> None:
    batch = server.database.write(lambda session: rows.end(session, rows.add_batch(session, owner="other")))
    answer = server.http.delete(f"/v1/batches/{batch.id}")
    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == f"No batch found with id '{batch.id}'."
