"""Processes that are stopped (SIGSTOP) for longer than their leases, as by a laptop's lid or a debugger."""

from collections.abc import Iterator

import pytest

from providers.simulator.process import Process
from tests.faults.auditor import Audit
from tests.faults.rig import LEASE_SECONDS, MOST_IN_FLIGHT, UNCOMMITTED, Mill, frozen, last, requests
from tests.polling import until

AT_MOST = MOST_IN_FLIGHT + UNCOMMITTED


@pytest.fixture
def second(mill: Mill) -> Iterator[None]:
    """Another provider worker in the same mill."""
    mill.hire("second")
    mill.await_workers("second")
    yield
    mill.dismiss()


@pytest.mark.usefixtures("second")
def test_answers_that_come_late_are_kept_if_they_are_the_first(mill: Mill, calm: Process, audit: Audit) -> None:
    """The other worker has just begun to repeat the calls when the frozen one wakes up with their answers."""
    calm.control(latency=1.5)
    lines = requests("late", 300)
    id = mill.submit(lines)
    pid = mill.worker()
    until(lambda: _calls(mill, calm, pid))
    with frozen([pid]):
        until(lambda: mill.field(id, "repeats_at_most") > 0, 30)
        until(lambda: any(one["calls"] > 1 for one in _seen(calm, "late")))
    mill.await_rest(id)
    _await_books(mill, calm, id, "late")
    assert audit(mill, id, lines, most_repeats=AT_MOST).completed == 300


@pytest.mark.usefixtures("second")
def test_answers_that_come_after_the_end_change_nothing(mill: Mill, calm: Process, audit: Audit) -> None:
    calm.control(latency=1)
    lines = requests("after", 300)
    id = mill.submit(lines)
    pid = mill.worker()
    until(lambda: _calls(mill, calm, pid))
    with frozen([pid]):
        mill.await_rest(id)
        before = mill.content(mill.batch(id)["output_file_id"])
        results = mill.rows("SELECT * FROM result ORDER BY job, generation")
    _await_books(mill, calm, id, "after")
    account = audit(mill, id, lines, most_repeats=AT_MOST)
    assert account.attempts > account.completed == 300
    assert mill.content(mill.batch(id)["output_file_id"]) == before
    assert mill.rows("SELECT * FROM result ORDER BY job, generation") == results


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(2 * LEASE_SECONDS + 1, id="two-leases"),
        pytest.param(180.0, id="three-minutes", marks=[pytest.mark.slow, pytest.mark.timeout(400)]),
    ],
)
def test_all_processes_stand_still(mill: Mill, calm: Process, audit: Audit, seconds: float) -> None:
    calm.control(latency=1)
    name = f"still-{seconds:g}"
    lines = requests(name, 200)
    id = mill.submit(lines)
    mill.await_done(id, 50)
    with frozen([mill.server, *mill.workers().values(), mill.valkey]):
        last(seconds)
    mill.await_rest(id)
    account = audit(mill, id, lines)
    assert account.completed == 200
    assert sum(one["answered"] for one in _seen(calm, name)) == 200


def _calls(mill: Mill, simulator: Process, pid: int) -> bool:
    """Whether this worker has begun calls, and all calls that have begun have reached the simulator."""
    rows = mill.rows("SELECT lease_owner, started FROM slice WHERE state = 'leased' AND started != ''")
    begun = [(f"/{pid}/" in holder, started.count(",") + 1) for holder, started in rows]
    return any(mine for mine, _ in begun) and simulator.stats()["in_flight"] >= sum(calls for _, calls in begun)


def _await_books(mill: Mill, simulator: Process, id: str, name: str) -> None:
    """Until every answer that was given has been stored."""

    until(lambda: simulator.stats()["in_flight"] == 0)
    until(lambda: mill.field(id, "attempts") >= sum(one["answered"] for one in _seen(simulator, name)))


def _seen(simulator: Process, name: str) -> list[dict[str, int]]:
    """What became of every line of that name."""
    by_nonce = simulator.stats(nonces=True)["by_nonce"]
    return [one for nonce, one in by_nonce.items() if nonce.startswith(f"{name}-")]
