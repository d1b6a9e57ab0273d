"""Reading an output file while its batch runs, from the offset that the answer before has told: autobatcher's way."""

import json

import httpx

from providers.simulator.process import Process
from tests.faults.rig import Mill, requests

LINES = 2_000
POLLS = 10


def test_no_line_is_missed_and_none_comes_twice(mill: Mill, simulator: Process) -> None:
    simulator.control(latency=0.1)
    id = mill.submit(requests("polled", LINES))
    file = mill.batch(id)["gristmill"]["output_file_id"]
    parts = [_read(mill, file, 0)]
    while parts[-1].headers["x-incomplete"] == "true":
        parts.append(_read(mill, file, int(parts[-1].headers["x-last-line"])))
    simulator.control(latency=0)
    assert sum(part.headers["x-incomplete"] == "true" and bool(part.content) for part in parts) >= POLLS
    assert all(part.content.endswith(b"\n") for part in parts if part.content)
    read = b"".join(part.content for part in parts).splitlines()
    assert sorted(json.loads(line)["custom_id"] for line in read) == sorted(f"polled-{n + 1}" for n in range(LINES))
    assert sorted(read) == sorted(mill.content(file).splitlines())


def _read(mill: Mill, file: str, offset: int) -> httpx.Response:
    answer = mill.client.get(f"/v1/files/{file}/content", params={"offset": offset} if offset else {})
    assert answer.status_code == 200, answer.text
    return answer
