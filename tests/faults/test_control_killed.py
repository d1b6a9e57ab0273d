"""kill -9 of the control worker: intake goes on at its cursor, and another one leads."""

from providers.simulator.process import Process
from tests.faults.auditor import Audit
from tests.faults.rig import Mill, requests
from tests.polling import until

MANY = 20_000


def test_killed_while_it_reads_the_file(mortal: Mill, audit: Audit) -> None:
    """No line is read twice or skipped; then the batch is cancelled, for its calls are not what is tried here."""
    lines = requests("intake", MANY)
    id = mortal.submit(lines, hold=True)
    until(lambda: 0 < mortal.field(id, "intake_line") < MANY)
    mortal.kill(mortal.worker("control"))
    assert mortal.field(id, "intake_line") < MANY, "it was read already"
    until(lambda: mortal.field(id, "status") == "in_progress", 60)
    assert mortal.field(id, "total") == MANY
    mortal.cancel(id)
    mortal.await_rest(id)
    assert audit(mortal, id, lines).codes == {"batch_cancelled": MANY}


def test_killed_while_it_dispatches(mortal: Mill, calm: Process, audit: Audit) -> None:
    calm.control(latency=0.2)
    lines = requests("dispatch", 800)
    id = mortal.submit(lines)
    mortal.await_done(id, 100)
    mortal.kill(mortal.worker("control"))
    mortal.await_rest(id)
    assert audit(mortal, id, lines).completed == 800
