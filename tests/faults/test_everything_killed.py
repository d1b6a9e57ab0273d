"""kill -9 of the server with all it has started: a new start in the same home goes on."""

import pytest

from providers.simulator.process import Process
from tests.faults.auditor import Audit
from tests.faults.rig import MOST_IN_FLIGHT, UNCOMMITTED, Mill, requests


def test_everything_is_killed_at_once(mortal: Mill, calm: Process, audit: Audit) -> None:
    calm.control(latency=0.2)
    lines = requests("all", 600)
    id = mortal.submit(lines)
    mortal.await_done(id, 300)
    mortal.kill_everything()
    mortal.start()
    mortal.await_rest(id)
    assert audit(mortal, id, lines, most_repeats=MOST_IN_FLIGHT + UNCOMMITTED).completed == 600


@pytest.mark.slow
def test_the_server_is_killed_and_its_workers_drain(mortal: Mill, calm: Process, audit: Audit) -> None:
    """Their lifeline is cut: calls in flight end in their grace, so none is repeated."""
    calm.control(latency=0.5)
    lines = requests("server", 500)
    id = mortal.submit(lines)
    mortal.await_done(id, 100)
    mortal.kill_server()
    mortal.start()
    mortal.await_rest(id)
    assert audit(mortal, id, lines).completed == 500
