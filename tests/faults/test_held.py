"""Held calls: what happens to them when the process that serves them dies, and what they wait for."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from providers.simulator.process import Process
from tests.faults.rig import Mill, requests
from tests.polling import until

CALLS = 50


@pytest.fixture
def narrow(simulator: Process, tmp_path: Path) -> Iterator[Mill]:
    """A mill whose quotas are easily used up."""
    providers = {
        "single": {"kind": "simulator", "base_url": simulator.base_url, "concurrency": 1},
        "slow": {"kind": "simulator", "base_url": simulator.base_url, "rpm": 120},
    }
    with Mill(tmp_path / "home", simulator.base_url, providers=providers) as mill:
        yield mill


def ask(mill: Mill, nonce: str, *, model: str = "simulator/tiny") -> httpx.Response:
    messages = [{"role": "user", "content": f"Grind. nonce:{nonce}"}]
    with httpx.Client(base_url=mill.client.base_url, timeout=90, trust_env=False) as client:
        return client.post("/v1/chat/completions", json={"model": model, "messages": messages})


def waiting(mill: Mill, state: str) -> int:
    sql = "SELECT count(*) FROM slice s JOIN batch b ON b.number = s.batch WHERE b.kind = 'held' AND s.state = ?"
    return int(mill.rows(sql, state)[0][0])


def test_the_control_worker_is_killed_while_calls_are_held(mortal: Mill, calm: Process) -> None:
    calm.control(latency=3.0)
    with ThreadPoolExecutor(CALLS) as pool:
        asked = [pool.submit(ask, mortal, f"held-{i}") for i in range(CALLS)]
        until(lambda: waiting(mortal, "leased") == CALLS, 30)
        mortal.kill(mortal.worker("control"))
        calm.control(latency=0)
        answers = [one.result() for one in asked]
    assert {answer.status_code for answer in answers} == {200}
    rows = mortal.rows("SELECT status, completed, repeats_at_most, attempts FROM batch WHERE kind = 'held'")
    assert [row[:2] for row in rows] == [("completed", 1)] * CALLS
    assert all(said <= 1 for _, _, said, _ in rows)
    called = calls_of(calm, "held-")
    assert sum(called.values()) - CALLS <= sum(said for _, _, said, _ in rows)


@pytest.mark.parametrize("model", ["single/tiny", "slow/tiny"])
def test_a_held_call_goes_before_the_backlog_of_a_batch(narrow: Mill, calm: Process, model: str) -> None:
    calm.control(latency=0.2)
    id = narrow.submit(requests("backlog", 400, model=model))
    narrow.await_done(id, 4)
    for turn in range(3):
        assert ask(narrow, f"first-{turn}", model=model).status_code == 200
    done = narrow.field(id, "completed")
    assert done < 100, "the held calls waited for the batch"
    narrow.await_done(id, done + 4)  # which goes on
    narrow.cancel(id)


def calls_of(simulator: Process, prefix: str) -> dict[str, int]:
    seen = simulator.stats(nonces=True)["by_nonce"]
    return {name: one["calls"] for name, one in seen.items() if name.startswith(prefix)}
