import pytest

from worker.control import pace
from worker.control.pace import Pace


def test_nothing_is_known_at_first() -> None:
    new = Pace()
    assert new.per_second is None
    for second in range(4):
        new.add(second, 5)
    assert new.per_second is None
    new.add(pace.KNOWN_SECONDS, 5)
    assert new.per_second is not None


def test_it_counts_from_the_first_that_ended() -> None:
    slow = Pace()
    for second in range(0, 20, 2):
        slow.add(second, 0)
    slow.add(20, 7)
    for second in range(22, 32, 2):
        slow.add(second, 4)
    assert slow.per_second == pytest.approx(2.0)


def test_it_forgets_what_was_long_ago() -> None:
    changing = Pace()
    for second in range(100):
        changing.add(second, 10)
    for second in range(100, 140):
        changing.add(second, 2)
    assert changing.per_second == pytest.approx(2.0, rel=0.1)


def test_what_seldom_ends_is_looked_at_for_longer() -> None:
    seldom, seen = Pace(), []
    for second in range(0, 1_800, 2):
        seldom.add(second, 1 if second % 40 == 0 else 0)
        seen.append(seldom.per_second)
    assert all(rate == pytest.approx(1 / 40, rel=0.15) for rate in seen[200:])


def test_bursts_are_evened_out() -> None:
    bursts, seen = Pace(), []
    for second in range(0, 900, 2):
        bursts.add(second, 8 if second % 60 == 0 else 0)
        seen.append(bursts.per_second)
    assert all(rate == pytest.approx(8 / 60, rel=0.35) for rate in seen[200:])


def test_after_a_rest_it_begins_anew() -> None:
    resting = Pace()
    for second in range(20):
        resting.add(second, 1)
    resting.rest()
    assert resting.per_second is None
    for second in range(1_000, 1_010):
        resting.add(second, 3)
    assert resting.per_second == pytest.approx(3.0)
