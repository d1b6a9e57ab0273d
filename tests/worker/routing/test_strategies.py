from collections import Counter

import pytest

from worker.alias_config import Strategy
from worker.routing import strategies
from worker.routing.strategies import Candidate, Turns

CHEAP = Candidate(key="cheap", price=10, in_flight=9, seconds=2.0, headroom=0.2)
IDLE = Candidate(key="idle", price=30, in_flight=1, seconds=3.0, headroom=0.5)
FAST = Candidate(key="fast", price=20, in_flight=5, seconds=0.5, headroom=0.1)
ROOMY = Candidate(key="roomy", price=None, in_flight=7, seconds=9.0, headroom=0.9)


@pytest.mark.parametrize(
    ("strategy", "chosen"),
    [
        (Strategy.LOWEST_COST, "cheap"),
        (Strategy.LEAST_BUSY, "idle"),
        (Strategy.LOWEST_LATENCY, "fast"),
        (Strategy.MOST_HEADROOM, "roomy"),
    ],
)
def test_the_best_is_chosen(strategy: Strategy, chosen: str) -> None:
    turns = Turns()
    assert {strategies.choose(strategy, [CHEAP, IDLE, FAST, ROOMY], turns).key for _ in range(10)} == {chosen}


def test_twice_the_weight_may_be_twice_as_busy() -> None:
    large, small = Candidate(key="large", weight=2, in_flight=10), Candidate(key="small", in_flight=6)
    assert strategies.choose(Strategy.LEAST_BUSY, [small, large], Turns()).key == "large"


def test_an_unknown_price_is_the_last_resort_and_an_unknown_latency_is_tried_first() -> None:
    known, unknown = Candidate(key="known", price=10**9, seconds=0.1), Candidate(key="unknown")
    assert strategies.choose(Strategy.LOWEST_COST, [unknown, known], Turns()).key == "known"
    assert strategies.choose(Strategy.LOWEST_LATENCY, [known, unknown], Turns()).key == "unknown"


def test_a_quota_that_nobody_knows_is_taken_for_a_whole_one() -> None:
    some, unknown = Candidate(key="some", headroom=0.99), Candidate(key="unknown")
    assert strategies.choose(Strategy.MOST_HEADROOM, [some, unknown], Turns()).key == "unknown"


def test_the_slow_ones_are_measured_again_now_and_then() -> None:
    turns, chosen = Turns(), Counter[str]()
    for _ in range(100):
        one = strategies.choose(Strategy.LOWEST_LATENCY, [FAST, ROOMY], turns)
        turns.took(one, 1)
        chosen[one.key] += 1
    assert chosen["roomy"] == 100 // strategies.LOOK_AROUND


@pytest.mark.parametrize("amount", [1, 7, 64])
@pytest.mark.parametrize("weights", [(1, 1), (8, 2), (5, 3, 2), (1, 1, 1), (0.7, 0.3)])
def test_shares_follow_the_weights(weights: tuple[float, ...], amount: int) -> None:
    turns, had = Turns(), Counter[str]()
    candidates = [Candidate(key=str(place), weight=weight) for place, weight in enumerate(weights)]
    for _ in range(500):
        one = strategies.choose(Strategy.WEIGHTED, candidates, turns)
        turns.took(one, amount)
        had[one.key] += amount
    for one in candidates:
        assert abs(had[one.key] / had.total() - one.weight / sum(weights)) < 0.01


def test_who_was_away_does_not_catch_up() -> None:
    one, other = Candidate(key="one"), Candidate(key="other")
    turns = Turns()
    for _ in range(100):
        turns.took(turns.next([one]), 1)
    had = Counter[str]()
    for _ in range(20):
        chosen = turns.next([one, other])
        turns.took(chosen, 1)
        had[chosen.key] += 1
    assert had == {"one": 10, "other": 10}
