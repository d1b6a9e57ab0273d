"""A Message Batch whose mill is killed, and whose failed requests run again: its format and its bytes stay."""

import json
from typing import Any

import pytest

from tests.faults.rig import Mill
from tests.polling import until

GOOD, FAILING = 250, 10
PATH = "/v1/messages/batches"


def request(id: str, text: str) -> dict[str, Any]:
    said = [{"role": "user", "content": f"{text} nonce:{id} Hello"}]
    return {"custom_id": id, "params": {"model": "simulator/tiny", "max_tokens": 16, "messages": said}}


def results(mill: Mill, id: str) -> bytes:
    return mill.client.get(f"{PATH}/{id}/results").raise_for_status().content


@pytest.mark.timeout(300)
def test_it_survives_and_is_retried_in_its_own_format(mortal: Mill) -> None:
    asked = [request(f"good-{n}", "[[delay=0.2]]") for n in range(GOOD)]
    asked += [request(f"bad-{n}", "[[status=400 times=2]]") for n in range(FAILING)]
    id = mortal.client.post(PATH, json={"requests": asked}).raise_for_status().json()["id"]
    until(lambda: mortal.field(id, "completed") > 20, 60)
    mortal.kill_everything()
    mortal.start()
    mortal.await_rest(id, 120)

    first = [json.loads(line) for line in results(mortal, id).splitlines()]
    assert [one["custom_id"] for one in first] == [one["custom_id"] for one in asked]
    assert [one["result"]["type"] for one in first] == ["succeeded"] * GOOD + ["errored"] * FAILING
    assert {one["result"]["error"]["error"]["type"] for one in first[GOOD:]} == {"invalid_request_error"}
    printed = mortal.command("results", id).splitlines()
    assert [json.loads(line) for line in printed] == first[:GOOD]
    assert id in mortal.command("list")

    for _ in range(2):  # a call that the kill cut off was the first of the two that fail
        if mortal.field(id, "failed"):
            mortal.command("retry", id)
            mortal.await_rest(id, 120)
    second = [json.loads(line) for line in results(mortal, id).splitlines()]
    assert second[:GOOD] == first[:GOOD]
    assert [one["result"]["type"] for one in second] == ["succeeded"] * len(asked)
    counts = mortal.client.get(f"{PATH}/{id}").json()["request_counts"]
    assert (counts["succeeded"], counts["errored"]) == (len(asked), 0)
