"""A batch of 5,000 lines is deleted; the control worker is killed in the middle of it. Not a call is forgotten."""

from typing import Any

import httpx

from providers.simulator.process import Process
from tests.faults.rig import Mill, requests
from tests.polling import until

LINES = 5_000


def used(mill: Mill) -> Any:
    return [mill.client.get("/v1/usage", params={"by": by}).json()["data"] for by in ("day", "model", "batch")]


def left(mill: Mill, number: int) -> dict[str, int]:
    keys = {"attempt": "job", "result": "job", "job": "id"}
    return {
        table: mill.rows(f"SELECT count(*) FROM {table} WHERE {key} >> 32 = ?", number)[0][0]
        for table, key in keys.items()
    }


def test_killed_in_the_middle_of_a_deletion(mortal: Mill, calm: Process) -> None:
    id = mortal.submit(requests("erased", LINES))
    mortal.await_rest(id, 120)
    number, before = mortal.field(id, "number"), used(mortal)
    assert before[0][0]["attempts"] >= LINES
    assert mortal.client.delete(f"/v1/batches/{id}").json()["deleted"] is True
    until(lambda: left(mortal, number)["attempt"] < LINES)
    mortal.kill(mortal.worker("control"))
    assert sum(left(mortal, number).values()) > 0, "it was erased already"
    assert used(mortal) == before
    until(lambda: sum(left(mortal, number).values()) == 0, 60)
    assert used(mortal) == before
    assert mortal.client.get(f"/v1/batches/{id}").status_code == 404


def test_a_reader_gets_all_or_an_error(mill: Mill, calm: Process) -> None:
    id = mill.submit(requests("half-read", LINES, text="Grind. " * 200))
    mill.await_rest(id, 120)
    file = mill.batch(id)["output_file_id"]
    whole = len(mill.content(file))
    with mill.client.stream("GET", f"/v1/files/{file}/content") as answer:
        chunks = answer.iter_raw(1 << 10)
        read = len(next(chunks))
        mill.client.delete(f"/v1/batches/{id}").raise_for_status()
        number = mill.field(id, "number")
        until(lambda: left(mill, number)["result"] == 0, 60)
        try:
            read += sum(map(len, chunks))
        except httpx.RemoteProtocolError:
            read = -1
    assert read in (-1, whole)
    assert mill.client.get(f"/v1/files/{file}/content").status_code == 404
