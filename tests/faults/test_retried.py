"""A batch with failed and cancelled lines is retried by real workers: the old files stay, the new ones are whole."""

import json
from typing import Any

from tests.faults.rig import Mill, requests
from tests.polling import until

GOOD, FAILING, CANCELLED = 850, 100, 50


def test_a_retry_runs_what_failed_and_what_was_cancelled(mill: Mill) -> None:
    lines = requests("retried", GOOD)
    lines += requests("retried", FAILING, first=GOOD + 1, text="[[status=400 times=1]]")
    lines += requests("retried", CANCELLED, first=GOOD + FAILING + 1)
    id = mill.submit(lines, line_limit=GOOD + FAILING)
    until(lambda: mill.field(id, "open") == CANCELLED, 60)
    mill.cancel(id)
    mill.await_rest(id)
    first = mill.batch(id)
    ids = [first["output_file_id"], first["error_file_id"]]
    before = [mill.content(file) for file in ids]
    assert [content.count(b"\n") for content in before] == [GOOD, FAILING + CANCELLED]

    mill.client.post(f"/v1/batches/{id}/retry", json={"line_limit": None}).raise_for_status()
    second = heard_until_rest(mill, id)
    assert (second["status"], second["gristmill"]["generation"]) == ("completed", 2)
    assert second["request_counts"] == {"total": len(lines), "completed": len(lines), "failed": 0}
    assert [mill.content(file) for file in ids] == before
    answers = mill.content(second["output_file_id"]).splitlines()
    assert set(before[0].splitlines()) < set(answers) and second["error_file_id"] is None
    assert [json.loads(answer)["custom_id"] for answer in answers] == [json.loads(line)["custom_id"] for line in lines]
    assert mill.field(id, "attempts") == GOOD + FAILING + FAILING + CANCELLED


def heard_until_rest(mill: Mill, id: str) -> dict[str, Any]:
    """The last that the events tell of the batch."""
    with mill.client.stream("GET", f"/v1/batches/{id}/events") as answer:
        told = [line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: ")]
    return dict(json.loads(told[-1]))
