"""When work that is shared by batches will be done: the arithmetic alone."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from providers.rate_limits import INPUT_TOKENS, OUTPUT_TOKENS, REQUESTS, TOKENS


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
    """The open lines of one batch for one route. Tokens are those of a line."""

    batch: int
    route: str
    scopes: frozenset[str]
    """Whose quota they may spend, as far as it does not rest."""
    priority: int
    lines: float
    input_tokens: float
    output_tokens: float

    def seconds(self, per_second: Mapping[str, float]) -> float:
        """The part of a second's quota that a line takes, of the quota that is scarcest for it."""
        costs = {
            REQUESTS: 1.0,
            TOKENS: self.input_tokens + self.output_tokens,
            INPUT_TOKENS: self.input_tokens,
            OUTPUT_TOKENS: self.output_tokens,
        }
        return max((costs[quota] / rate for quota, rate in per_second.items() if quota in costs), default=0.0)


def pools(demands: Iterable[Demand]) -> list[list[Demand]]:
    """Demands that share a scope, directly or through others, wait for each other."""
    found: list[tuple[frozenset[str], list[Demand]]] = []
    for demand in demands:
        joined = [pool for pool in found if pool[0] & demand.scopes]
        found = [pool for pool in found if not pool[0] & demand.scopes]
        scopes = demand.scopes.union(*(pool[0] for pool in joined))
        found.append((scopes, [*itertools.chain.from_iterable(pool[1] for pool in joined), demand]))
    return [members for _, members in found]


def quota(limits: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """What several scopes grant a second together; nothing of a quota that one of them does not tell."""
    told = set(limits[0]).intersection(*limits[1:]) if limits else set()
    return {name: sum(limit[name] for limit in limits) for name in told}


def speed(demands: Sequence[Demand], paces: Mapping[str, float], per_second: Mapping[str, float]) -> float | None:
    """Work a second that the pool does: seconds of quota where one is known, else lines. None while nothing is known.

    As measured, and never more than the quota grants, which may just have become less.
    """
    routes = {one.route for one in demands} & paces.keys()
    measured = sum(paces[route] * _work_of_a_line(demands, route, per_second) for route in routes)
    if measured <= 0:
        return None
    return min(1.0, measured) if per_second else measured


def amounts(demands: Sequence[Demand], per_second: Mapping[str, float]) -> dict[int, tuple[int, float]]:
    """(priority, work) by batch."""
    found: dict[int, tuple[int, float]] = {}
    for one in demands:
        found[one.batch] = (one.priority, found.get(one.batch, (0, 0.0))[1] + _work(one, per_second))
    return found


def finish(amounts: Mapping[int, tuple[int, float]], speed: float | None) -> dict[int, float]:
    """Seconds until each batch is done: the higher priority first, equals share evenly. Endless at an unknown speed."""
    if speed is None:
        return dict.fromkeys(amounts, math.inf)
    ends: dict[int, float] = {}
    now = 0.0
    ranked = sorted(amounts.items(), key=lambda item: -item[1][0])
    for _, group in itertools.groupby(ranked, key=lambda item: item[1][0]):
        members = sorted(group, key=lambda item: item[1][1])
        done = 0.0
        for place, (batch, (_, amount)) in enumerate(members):
            now += (amount - done) * (len(members) - place) / speed
            done = amount
            ends[batch] = now
    return ends


def _work(demand: Demand, per_second: Mapping[str, float]) -> float:
    return demand.lines * (demand.seconds(per_second) if per_second else 1.0)


def _work_of_a_line(demands: Sequence[Demand], route: str, per_second: Mapping[str, float]) -> float:
    mine = [one for one in demands if one.route == route]
    lines = sum(one.lines for one in mine)
    return sum(_work(one, per_second) for one in mine) / lines if lines else 0.0
