import dataclasses

import pytest

from bench import ideal
from bench.case import Behaviour, Case, Change, Told

CASE = Case(name="some", title="some", lines=5_000, behaviour=Behaviour(latency=0.5, rpm=3_000), aims=())


def test_a_bucket_gives_what_it_holds_at_once_and_the_rest_as_it_refills() -> None:
    assert ideal.drained(5_000, [(0.0, 3_000)], 60.0) == 40.0
    assert ideal.drained(5_000, [(0.0, 3_000)], 1.0) == 99.0
    assert ideal.drained(2_000, [(0.0, 3_000)], 60.0) == 0.0


def test_a_limit_that_changes_counts_from_then_on() -> None:
    halved = [(0.0, 3_000.0), (30.0, 1_500.0), (60.0, 3_000.0)]
    assert ideal.drained(5_000, halved, 1.0) == pytest.approx(60 + (5_000 - 50 - 1_500 - 750) / 50)
    assert ideal.drained(1_000, halved, 1.0) == pytest.approx(19.0)
    assert ideal.drained(2_000, halved, 1.0) == pytest.approx(30 + 450 / 25)


def test_the_ideal_time_is_that_of_the_tightest_bound() -> None:
    assert ideal.seconds(CASE, 0.0) == 40.5
    tokens = dataclasses.replace(CASE, behaviour=Behaviour(latency=0.5, rpm=3_000, tpm=600_000, burst=1.0))
    assert ideal.seconds(tokens, 200.0) == pytest.approx((1_000_000 - 10_000) / 10_000 + 0.5)
    shared = dataclasses.replace(CASE, told=Told(share=0.5))
    assert ideal.seconds(shared, 0.0) == 140.5
    changed = dataclasses.replace(CASE, changes=(Change(at=10.0, rpm=6_000),))
    assert ideal.seconds(changed, 0.0) == pytest.approx(10 + 1_500 / 100 + 0.5)


def test_without_a_limit_latency_bounds_it_or_nothing_does() -> None:
    free = dataclasses.replace(CASE, behaviour=Behaviour(latency=1.0), ideal_at_once=1_000)
    assert ideal.seconds(free, 0.0) == 5.0
    assert ideal.seconds(dataclasses.replace(free, behaviour=Behaviour()), 0.0) is None
