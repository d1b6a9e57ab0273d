"""SIGTERM of the provider worker: it drains, spends no attempt, and repeats only what it had to abandon."""

from providers.simulator.process import Process
from tests.faults.auditor import Audit
from tests.faults.rig import DRAIN_SECONDS, MOST_IN_FLIGHT, Mill, lives, requests
from tests.polling import until


def test_calls_that_outlast_the_grace_are_abandoned_and_made_again(mortal: Mill, calm: Process, audit: Audit) -> None:
    calm.control(latency=30)
    lines = requests("abandoned", 100)
    id = mortal.submit(lines)
    until(lambda: calm.stats()["in_flight"] == MOST_IN_FLIGHT)
    _terminate(mortal)
    calm.control(latency=0)
    mortal.await_rest(id)
    account = audit(mortal, id, lines, most_repeats=MOST_IN_FLIGHT)
    assert (account.completed, account.repeats) == (100, MOST_IN_FLIGHT)
    assert account.attempts == 100 + MOST_IN_FLIGHT
    assert mortal.rows("SELECT max(attempts) FROM job") == [(0,)]


def test_calls_that_end_within_the_grace_are_not_repeated(mortal: Mill, calm: Process, audit: Audit) -> None:
    calm.control(latency=0.7)
    lines = requests("drained", 200)
    id = mortal.submit(lines)
    mortal.await_done(id, 1)
    _terminate(mortal)
    mortal.await_rest(id)
    account = audit(mortal, id, lines)
    assert (account.completed, account.attempts) == (200, 200)


def _terminate(mill: Mill) -> None:
    """It must be gone five seconds after its grace at the latest."""
    pid = mill.worker()
    mill.terminate(pid)
    until(lambda: not lives(pid), DRAIN_SECONDS + 5)
