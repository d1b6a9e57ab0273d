"""Providers that refuse, fail and break their answers: every line ends, and no 429 costs an attempt."""

import pytest

from providers.simulator.process import Process
from tests.faults.auditor import Audit
from tests.faults.rig import Mill, requests

BREAKAGES = {
    "hang": "hang=5",
    "cut": "cut=0.5",
    "reset": "reset",
    "html": "garbage=html",
    "empty": "garbage=empty",
    "truncated": "garbage=truncated",
    "null": "garbage=null",
    "bad gateway": "status=502",
}


def test_three_of_ten_calls_are_refused_with_a_wait(mill: Mill, calm: Process, audit: Audit) -> None:
    early = calm.stats()["early_retries"]
    calm.control(latency=0.05, faults={"status=429 retry_after=1": 0.3})
    lines = requests("limited", 150, model="simulator/tiny-limited")
    id = mill.submit(lines)
    mill.await_rest(id)
    account = audit(mill, id, lines)
    assert account.completed == 150
    assert account.attempts > 150
    assert calm.stats()["early_retries"] == early
    assert mill.field(id, "retries") == 0


def test_one_of_five_calls_fails(mill: Mill, calm: Process, audit: Audit) -> None:
    """With one retry a few lines have no luck: their error is the provider's own."""
    calm.control(latency=0.05, faults={"status=500": 0.2})
    lines = requests("shaky", 300, model="brittle/tiny-shaky")
    id = mill.submit(lines)
    mill.await_rest(id)
    account = audit(mill, id, lines)
    assert 240 < account.completed < 300
    assert mill.field(id, "retries") > account.failed
    errors = [response["status_code"] for response in mill.errors(id)]
    assert errors == [500] * account.failed


@pytest.mark.parametrize("times", ["once", "always"])
def test_broken_answers(mill: Mill, audit: Audit, times: str) -> None:
    said = " times=1" if times == "once" else ""
    lines = requests(f"sound-{times}", 40, model="brittle/tiny-broken")
    for name, words in BREAKAGES.items():
        name = name.replace(" ", "-")
        lines += requests(f"{name}-{times}", 2, model="brittle/tiny-broken", text=f"[[{words}{said}]]")
    id = mill.submit(lines)
    mill.await_rest(id)
    account = audit(mill, id, lines)
    assert account.failed == (0 if times == "once" else 2 * len(BREAKAGES))


def test_a_few_lines_that_break_every_answer_are_no_outage(mill: Mill, audit: Audit) -> None:
    """Twelve lines with two calls each are more failures in a row than an outage needs, but always the same lines."""
    lines = requests("breaker", 12, model="brittle/tiny-breaker", text="[[reset]]")
    id = mill.submit(lines)
    mill.await_rest(id, 30)
    assert audit(mill, id, lines).failed == 12
