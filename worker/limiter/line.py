"""The line before a scope in one process: whose calls are next.

Held calls first, then by priority; within one priority batches that have had less than about a minute of the scope's
quota, then whoever has had the least of it, counted in seconds of the quota that is scarcest for its calls.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from providers.rate_limits import REQUESTS
from worker.limiter.cost import Cost

CREDIT_SECONDS = 60.0
UNLIMITED_SECONDS = 0.5
"""What a call counts where no quota is known."""
MOST_SHARES = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """Whose calls wait. ``answered``: calls of this batch to this model that were made before."""

    batch: int
    priority: int = 0
    held: bool = False
    answered: int = 0


@dataclass(frozen=True, slots=True)
class Admission:
    """The first ``count`` jobs may begin. If 0: not before ``wait`` seconds."""

    count: int
    wait: float = 0.0


@dataclass(slots=True, eq=False)
class Waiter:
    costs: Sequence[Cost]
    standing: Standing
    answer: "asyncio.Future[Admission]"


@dataclass(slots=True, eq=False)
class _Share:
    """One batch's part of the line; seconds of quota."""

    standing: Standing
    had: float
    """With a handicap for having come late: compared with the others'."""
    used: float
    """Since its first call, also in other processes: compared with its credit."""
    waiters: deque[Waiter] = field(default_factory=deque)

    @property
    def urgency(self) -> int:
        """2: held, 1: in credit, 0: any other."""
        return 2 if self.standing.held else int(self.used < CREDIT_SECONDS)

    @property
    def rank(self) -> tuple[bool, int, bool, float]:
        return (not self.standing.held, -self.standing.priority, self.used >= CREDIT_SECONDS, self.had)


class Line:
    """Lives on the engine's loop."""

    def __init__(self) -> None:
        self._shares: dict[int, _Share] = {}
        self._per_second: dict[str, float] = {}
        self._latest = 0.0

    def __bool__(self) -> bool:
        return any(share.waiters for share in self._shares.values())

    def limits(self, per_second: Mapping[str, float]) -> None:
        """The quotas by which calls are weighed."""
        self._per_second = dict(per_second)

    def join(self, costs: Sequence[Cost], standing: Standing) -> Waiter:
        waiter = Waiter(costs, standing, asyncio.get_running_loop().create_future())
        used = standing.answered * self._weight(costs[0])
        share = self._shares.get(standing.batch)
        if share is None:
            self._forget_the_gone()
            share = self._shares[standing.batch] = _Share(standing, had=self._latest, used=used)
        elif not share.waiters:
            share.had = max(share.had, self._latest)
        share.used = max(share.used, used)
        share.standing = standing
        share.waiters.append(waiter)
        return waiter

    def next(self) -> Waiter | None:
        """Whose turn it is."""
        while waiting := [share for share in self._shares.values() if share.waiters]:
            share = waiting[0] if len(waiting) == 1 else min(waiting, key=lambda one: one.rank)
            if not share.waiters[0].answer.done():
                return share.waiters[0]
            share.waiters.popleft()
        return None

    def serve(self, waiter: Waiter, count: int) -> None:
        """Its turn is over: the first ``count`` of its calls begin."""
        share = self._shares[waiter.standing.batch]
        share.waiters.remove(waiter)
        weight = sum(self._weight(cost) for cost in waiter.costs[:count])
        self._latest = max(self._latest, share.had)
        share.had += weight
        share.used += weight
        waiter.answer.set_result(Admission(count))

    @property
    def has_held(self) -> bool:
        return any(share.waiters and share.standing.held for share in self._shares.values())

    def leave(self, waiter: Waiter) -> None:
        share = self._shares.get(waiter.standing.batch)
        if share is not None and waiter in share.waiters:
            share.waiters.remove(waiter)

    def send_away(self, wait: float) -> None:
        """Nobody's turn comes for ``wait`` seconds."""
        for share in self._shares.values():
            while share.waiters:
                waiter = share.waiters.popleft()
                if not waiter.answer.done():
                    waiter.answer.set_result(Admission(0, wait))

    def costs(self, most: int) -> list[Cost]:
        """Of the calls that wait, about in the order of their turns."""
        found: list[Cost] = []
        for share in sorted(self._shares.values(), key=lambda one: one.rank):
            for waiter in share.waiters:
                found.extend(waiter.costs[: most - len(found)])
        return found

    @property
    def urgency(self) -> int:
        """Of the most urgent who wait; across processes they go first."""
        return max((share.urgency for share in self._shares.values() if share.waiters), default=0)

    def urgent(self) -> dict[str, float]:
        """What of each quota these wait for."""
        urgency = self.urgency
        waiting = [share for share in self._shares.values() if share.waiters and share.urgency == urgency > 0]
        costs = [cost for share in waiting for waiter in share.waiters for cost in waiter.costs]
        if not costs:
            return {}
        return {quota: sum(cost.of(quota) for cost in costs) for quota in {REQUESTS, *self._per_second}}

    def _weight(self, cost: Cost) -> float:
        if not self._per_second:
            return UNLIMITED_SECONDS
        return max(cost.of(quota) / rate for quota, rate in self._per_second.items())

    def _forget_the_gone(self) -> None:
        """A batch that comes again has its use counted by its standing."""
        if len(self._shares) > MOST_SHARES:
            self._shares = {number: share for number, share in self._shares.items() if share.waiters}
