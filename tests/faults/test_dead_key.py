"""A provider's key is dead: its lines wait, all others go on, and after the repair nothing is missing."""

from providers.simulator.process import Process
from tests.faults.auditor import Audit
from tests.faults.rig import Mill, requests
from tests.polling import until


def test_a_dead_key_stops_only_its_own_lines(mill: Mill, calm: Process, audit: Audit) -> None:
    calm.control(keys={"sk-alpha": {"refuse": "invalid_api_key"}})
    dead, alive = requests("dead", 150, model="alpha/tiny"), requests("alive", 150, model="beta/tiny")
    lines = [line for pair in zip(dead, alive, strict=True) for line in pair]
    id = mill.submit(lines)
    mill.await_done(id, 150)
    mill.await_block(id, "auth")
    until(lambda: mill.batch(id)["gristmill"]["in_flight"] == 0)
    assert mill.batch(id)["request_counts"] == {"total": 300, "completed": 150, "failed": 0}
    calm.control(keys={"sk-alpha": None})
    mill.hasten_probes()
    mill.await_rest(id)
    account = audit(mill, id, lines)
    assert account.completed == 300
    assert mill.rows("SELECT max(attempts) FROM job") == [(0,)]
