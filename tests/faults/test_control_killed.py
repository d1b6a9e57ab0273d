"""kill -9 of the control worker: intake goes on at its cursor, and another one leads."""

from providers.simulator.process import Process
from tests.faults.auditor import Audit
from tests.faults.rig import Mill, requests
from tests.polling import until

MANY = 20_000


def test_killed_while_it_reads_the_file(new_mill: Mill, audit: Audit) -> None:
    """No line is read twice or skipped; then the batch is cancelled, for its calls are not what is tried here."""
    lines = requests("intake", MANY)
    id = new_mill.submit(lines, hold=True)
    until(lambda: 0 < new_mill.field(id, "intake_line") < MANY)
    new_mill.kill(new_mill.worker("control"))
    assert new_mill.field(id, "intake_line") < MANY, "it was read already"
    until(lambda: new_mill.field(id, "status") == "in_progress", 60)
    assert new_mill.field(id, "total") == MANY
    new_mill.cancel(id)
    new_mill.await_rest(id)
    assert audit(new_mill, id, lines).codes == {"batch_cancelled": MANY}


def test_killed_while_it_dispatches(new_mill: Mill, calm: Process, audit: Audit) -> None:
    calm.control(latency=0.2)
    lines = requests("dispatch", 1_500)
    id = new_mill.submit(lines)
    for done in (100, 400):
        new_mill.await_done(id, done)
        new_mill.kill(new_mill.worker("control"))
    new_mill.await_rest(id)
    assert audit(new_mill, id, lines).completed == 1_500
