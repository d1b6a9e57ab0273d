"""kill -9 of provider workers: nothing is lost, and what is called again was counted before."""

from dataclasses import dataclass
from itertools import count

import pytest
import redis

from providers.simulator.process import Process
from tests.faults.auditor import Audit
from tests.faults.rig import MOST_IN_FLIGHT, UNCOMMITTED, Mill, requests

PER_KILL = MOST_IN_FLIGHT + UNCOMMITTED


def test_three_kills_of_the_worker_and_an_emptied_broker(mortal: Mill, calm: Process, audit: Audit) -> None:
    calm.control(latency=0.15)
    lines = requests("killed", 2_000)
    mortal.hire("hired")
    id = mortal.submit(lines)
    for done, name in (200, "providers"), (700, "providers"), (1_200, "hired"):
        mortal.await_done(id, done)
        mortal.kill(mortal.worker(name))
        if done == 700:
            with redis.Redis.from_url(mortal.redis_url) as broker:
                broker.flushall()
    mortal.await_rest(id)
    assert audit(mortal, id, lines, most_repeats=3 * PER_KILL).completed == 2_000


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_kill_every_five_seconds(mortal: Mill, calm: Process, audit: Audit) -> None:
    calm.control(latency=0.3)
    lines = requests("often", 20_000)
    id = mortal.submit(lines)
    names, kills = count(1), 0
    while not mortal.is_at_rest(id):
        pid = mortal.hire(f"hired-{next(names)}")
        mortal.await_workers(f"hired-{kills + 1}")
        mortal.is_at_rest(id, within=5.0)
        mortal.kill(pid)
        kills += 1
    account = audit(mortal, id, lines, most_repeats=kills * PER_KILL)
    assert account.completed == 20_000
    assert kills >= 4


@dataclass(frozen=True, kw_only=True)
class Dose:
    """How many lines, and how many of them kill whoever calls them."""

    lines: int
    poison: int


@pytest.mark.parametrize(
    "dose",
    [
        pytest.param(Dose(lines=150, poison=1), id="one"),
        pytest.param(Dose(lines=1_000, poison=3), id="three", marks=[pytest.mark.slow, pytest.mark.timeout(600)]),
    ],
)
def test_a_line_that_kills_its_worker_ends_alone(mortal: Mill, calm: Process, audit: Audit, dose: Dose) -> None:
    """It has crashed its worker twice in company, once among ten and three times alone when it is given up."""
    calm.control(latency=0.1)
    poison = requests("poison", dose.poison, text="[[delay=60]]")
    lines = [*requests("innocent", dose.lines - dose.poison), *poison]
    names, kills = count(1), 0
    mortal.hire(f"hired-{next(names)}")
    id = mortal.submit(lines[::-1])
    while not mortal.is_at_rest(id):
        if (pid := _victim(mortal, calm)) is not None:
            mortal.kill(pid)
            mortal.hire(f"hired-{next(names)}")
            kills += 1
    account = audit(mortal, id, lines[::-1], most_repeats=kills * PER_KILL)
    assert account.codes == {"worker_crashed": dose.poison}
    assert account.completed == dose.lines - dose.poison


HOLDERS = """
SELECT job.custom_id, slice.lease_owner FROM slice JOIN job ON job.slice = slice.id
WHERE slice.state = 'leased' AND job.custom_id LIKE 'poison-%'
"""


def _victim(mill: Mill, simulator: Process) -> int | None:
    """The worker that has a poisonous line in flight, by the simulator's word and by the lease."""
    living = mill.workers().values()
    seen = simulator.stats(nonces=True)["by_nonce"]
    for name, holder in mill.rows(HOLDERS):
        one, pid = seen.get(name), int(holder.split("/")[2])
        if one and one["calls"] > one["answered"] + one["failed"] + one["gone"] and pid in living:
            return pid
    return None
