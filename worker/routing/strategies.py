"""Which of several candidates serves next. Pure but for ``Turns``, which remembers who had how much."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from worker.alias_config import Strategy

LOOK_AROUND = 20
"""By latency, one choice of so many is one of the slower: who is not called is not measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A deployment, or all those of one provider. None is not known."""

    key: str
    weight: float = 1.0
    in_flight: int = 0
    price: int | None = None
    """Pico-USD of a million input and as many output tokens."""
    seconds: float | None = None
    """What an answer takes."""
    headroom: float | None = None
    """The part of its quota that is left, 0 to 1."""


@dataclass(slots=True)
class Turns:
    """Shares by weight: what each has had, divided by its weight, stays equal among those that can be chosen.

    Who could not be chosen for a while does not catch up afterwards.
    """

    choices: int = 0
    _had: dict[str, float] = field(default_factory=dict)
    _present: frozenset[str] = frozenset()

    def next(self, candidates: Sequence[Candidate]) -> Candidate:
        self._admit(candidates)
        return min(candidates, key=lambda one: (self._had[one.key], -one.weight))

    def took(self, candidate: Candidate, amount: float) -> None:
        self._had[candidate.key] = self._had.get(candidate.key, 0.0) + amount / candidate.weight

    def _admit(self, candidates: Sequence[Candidate]) -> None:
        keys = frozenset(one.key for one in candidates)
        stayed = [self._had[key] for key in keys & self._present if key in self._had]
        level = min(stayed, default=0.0)
        for key in keys - self._present:
            self._had[key] = max(self._had.get(key, level), level)
        self._present = keys


def choose(strategy: Strategy, candidates: Sequence[Candidate], turns: Turns) -> Candidate:
    """The best by the strategy; equals take turns by weight."""
    turns.choices += 1
    ranks = [_rank(strategy, one) for one in candidates]
    best = min(ranks)
    others = [one for one, rank in zip(candidates, ranks, strict=True) if rank > best]
    looks_around = strategy is Strategy.LOWEST_LATENCY and turns.choices % LOOK_AROUND == 0
    if looks_around and others:
        return others[turns.choices // LOOK_AROUND % len(others)]
    return turns.next([one for one, rank in zip(candidates, ranks, strict=True) if rank == best])


def _rank(strategy: Strategy, one: Candidate) -> float:
    """Less is better."""
    match strategy:
        case Strategy.WEIGHTED:
            return 0.0
        case Strategy.LEAST_BUSY:
            return one.in_flight / one.weight
        case Strategy.LOWEST_COST:
            return math.inf if one.price is None else one.price
        case Strategy.LOWEST_LATENCY:
            return 0.0 if one.seconds is None else one.seconds
        case Strategy.MOST_HEADROOM:
            return -1.0 if one.headroom is None else -one.headroom
