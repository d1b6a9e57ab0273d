"""Cancel and expiry with calls in flight: none begins any more, what was paid is kept, every line has its row."""

from providers.simulator.process import Process
from tests.faults.auditor import Audit
from tests.faults.rig import MOST_IN_FLIGHT, Mill, requests
from tests.polling import until


def test_a_cancel_keeps_what_is_in_flight(mill: Mill, calm: Process, audit: Audit) -> None:
    calm.control(latency=1.5)
    lines = requests("cancelled", 500)
    id = mill.submit(lines)
    until(lambda: calm.stats()["in_flight"] == MOST_IN_FLIGHT)
    arrived = calm.stats()["arrived"]
    mill.cancel(id)
    mill.await_rest(id)
    account = audit(mill, id, lines)
    assert account.status == "cancelled"
    assert calm.stats()["arrived"] == arrived
    assert account.completed == account.attempts >= MOST_IN_FLIGHT
    assert account.codes == {"batch_cancelled": 500 - account.completed}


def test_a_cancel_does_not_wait_for_ever(mill: Mill, calm: Process, audit: Audit) -> None:
    lines = [*requests("hanging", 3, text="[[hang=60]]"), *requests("quick", 50)]
    id = mill.submit(lines)
    mill.await_done(id, 50)
    mill.cancel(id)
    mill.await_rest(id)
    account = audit(mill, id, lines)
    assert (account.status, account.completed) == ("cancelled", 50)
    assert account.codes == {"batch_cancelled": 3}
    assert mill.field(id, "unknown_cost") == 3


def test_a_window_that_passes(mill: Mill, calm: Process, audit: Audit) -> None:
    """Eight calls at a time take longer than the window, and one of them would never end."""
    calm.control(latency=0.2)
    model = "narrow/tiny"
    lines = [*requests("endless", 1, model=model, text="[[hang=60]]"), *requests("slow", 400, model=model)]
    id = mill.submit(lines, window="3s")
    mill.await_rest(id)
    account = audit(mill, id, lines)
    assert account.status == "expired"
    assert account.completed > 0
    assert account.codes == {"batch_expired": 401 - account.completed}
