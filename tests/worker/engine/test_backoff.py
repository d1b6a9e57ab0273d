from hypothesis import given
from hypothesis import strategies as st

from worker.engine import backoff
from worker.engine.backoff import LONGEST_SECONDS

counts = st.integers(1, 10_000)
asked = st.floats(0, 100_000)


@given(failures=counts)
def test_a_failure_waits_at_most_twice_as_long_as_the_one_before(failures: int) -> None:
    assert 0 <= backoff.transient(failures, None) <= min(LONGEST_SECONDS, 0.5 * 2.0 ** min(failures, 20))


@given(failures=counts, wait=asked)
def test_nobody_comes_back_sooner_than_it_was_asked(failures: int, wait: float) -> None:
    assert backoff.transient(failures, wait) >= wait
    assert wait <= backoff.limited(failures, wait) <= wait + 0.25


@given(refusals=counts)
def test_a_429_without_a_time_waits_longer_and_longer(refusals: int) -> None:
    assert 0.5 <= backoff.limited(refusals, None) <= 0.5 + min(LONGEST_SECONDS, 2.0 ** min(refusals, 20))


def test_waits_are_spread() -> None:
    assert len({backoff.transient(6, None) for _ in range(20)}) > 10
    assert len({backoff.limited(6, 5.0) for _ in range(20)}) > 10
