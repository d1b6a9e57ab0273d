"""Admission: which calls may begin now. Per scope a locally leased budget, per process a number and bytes of calls."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from worker.catalog import ScopeLimits
from worker.limiter.exchange import Ask, Exchange, Grant, LimiterAway

log = logging.getLogger("gristmill.limiter")

LEASE_SECONDS = 0.5
"""Of a scope's quota, so much is taken at a time."""
SHORTEST_GAP = 0.05
REFRESH_SECONDS = 1.0
"""A scope in use is asked at least this often: for its rest, and to keep its part of the concurrency."""
PATIENCE = 5.0
"""Who would have to wait longer is told so, and gives its jobs back."""
URGENT_PATIENCE = 60.0
"""That of an urgent process: whoever gives back loses its place to those who are not."""
MOST_ANSWERS = 50


@dataclass(frozen=True, slots=True)
class Cost:
    """What one call takes: estimated tokens of quota, and the bytes of its body in memory."""

    tokens: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Admission:
    """The first ``count`` jobs may begin. If 0: not before ``wait`` seconds."""

    count: int
    wait: float = 0.0


class ProcessBudget:
    """Calls in flight, and bytes of their bodies, of the whole process."""

    def __init__(self, calls: int, body_bytes: int) -> None:
        self.calls = calls
        self.body_bytes = body_bytes
        self.in_flight = 0
        self.bytes_in_flight = 0

    def fits(self, calls: int, size: int) -> bool:
        """One body may be larger than the whole budget if it is alone."""
        return self.in_flight + calls <= self.calls and (
            self.bytes_in_flight + size <= self.body_bytes or (self.bytes_in_flight == 0 and calls == 1)
        )


class Gate:
    """All scopes of a process. Lives on the engine's loop. ``urgent``: all its calls go before other processes'."""

    def __init__(self, exchange: Exchange, budget: ProcessBudget, *, urgent: bool = False) -> None:
        self._exchange = exchange
        self._urgent = urgent
        self.budget = budget
        self._scopes: dict[str, ScopeGate] = {}

    def scope(self, name: str, limits: ScopeLimits) -> "ScopeGate":
        gate = self._scopes.get(name)
        if gate is None:
            gate = ScopeGate(name, limits, self._exchange, self.budget, self.pump, urgent=self._urgent)
            self._scopes[name] = gate
        gate.limits = limits
        return gate

    def pump(self) -> None:
        """Something of the process's budget is free again: every scope may have a waiting call for it."""
        for gate in self._scopes.values():
            gate.pump()

    async def close(self) -> None:
        for gate in self._scopes.values():
            await gate.close()


class ScopeGate:
    """One scope: waiters in turn, what is left of the leased budget, and the exchange that gets more."""

    def __init__(
        self,
        name: str,
        limits: ScopeLimits,
        exchange: Exchange,
        budget: ProcessBudget,
        freed: Callable[[], None],
        *,
        urgent: bool = False,
    ) -> None:
        self.name = name
        self.limits = limits
        self._exchange = exchange
        self._budget = budget
        self._freed = freed
        self._urgent = urgent
        self._patience = URGENT_PATIENCE if urgent else PATIENCE
        self._waiters: deque[tuple[Sequence[Cost], asyncio.Future[Admission]]] = deque()
        self._requests = 0
        self._tokens = 0
        self._slots = 0
        self._in_flight = 0
        self._answers = ""
        self._floor = 0.0
        self._force = False
        self._rest_until = 0.0
        self._fresh_until = 0.0
        self._used_at = 0.0
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def admit(self, costs: Sequence[Cost]) -> Admission:
        """Wait until at least the first of these calls may begin, or until it is known to take too long."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._keep_exchanging())
        future: asyncio.Future[Admission] = asyncio.get_running_loop().create_future()
        waiter = (costs, future)
        self._waiters.append(waiter)
        self.pump()
        try:
            return await future
        except asyncio.CancelledError:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            raise

    def unused(self, costs: Sequence[Cost]) -> None:
        """Admitted calls that did not begin: all that they had taken is given back."""
        self._requests += len(costs)
        self._tokens += sum(cost.tokens for cost in costs)
        self._leave(costs)

    def ended(self, cost: Cost, tokens: int | None) -> None:
        """A call is over; ``tokens`` is what it really took, if known, and corrects the estimate."""
        if self.limits.tokens_per_minute and tokens is not None:
            self._tokens += cost.tokens - tokens
            if self._tokens < 0:
                self._wanted.set()
        self._leave((cost,))

    def answered(self, *, refused: bool, floor: float = 0.0, force: bool = False) -> None:
        """Report an answer: ``refused`` by a 429, with the wait it named; ``force`` rests the scope at once."""
        self._answers = (self._answers + ("1" if refused else "0"))[-MOST_ANSWERS:]
        self._floor = max(self._floor, floor)
        self._force = self._force or force
        if refused:
            self._wanted.set()

    def pump(self) -> None:
        while self._waiters:
            costs, future = self._waiters[0]
            count = self._affordable(costs)
            if count == 0:
                self._wanted.set()
                return
            self._waiters.popleft()
            if not future.done():
                self._enter(costs[:count])
                future.set_result(Admission(count))

    async def close(self) -> None:
        # More than once: a cancel can be lost inside the client of Valkey.
        while self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=0.1)

    def _enter(self, costs: Sequence[Cost]) -> None:
        self._used_at = time.monotonic()
        self._requests -= len(costs)
        self._tokens -= sum(cost.tokens for cost in costs)
        self._in_flight += len(costs)
        self._budget.in_flight += len(costs)
        self._budget.bytes_in_flight += sum(cost.bytes for cost in costs)

    def _leave(self, costs: Sequence[Cost]) -> None:
        self._in_flight -= len(costs)
        self._budget.in_flight -= len(costs)
        self._budget.bytes_in_flight -= sum(cost.bytes for cost in costs)
        if self._in_flight == 0 and not self._waiters and self.limits.concurrency:
            self._wanted.set()  # others may be waiting for the places
        self._freed()

    def _affordable(self, costs: Sequence[Cost]) -> int:
        now = time.monotonic()
        if now < self._rest_until or now > self._fresh_until:
            return 0
        count = size = tokens = 0
        for cost in costs:
            size, tokens = size + cost.bytes, tokens + cost.tokens
            if not (
                self._budget.fits(count + 1, size)
                and (not self.limits.concurrency or self._in_flight + count < self._slots)
                and (not self.limits.requests_per_minute or count < self._requests)
                and (not self.limits.tokens_per_minute or tokens <= self._tokens)
            ):
                break
            count += 1
        return count

    async def _keep_exchanging(self) -> None:
        wait, last = 0.0, float("-inf")
        while True:
            await self._pause(last, wait)
            last = time.monotonic()
            ask = self._ask()
            try:
                grant = await self._exchange.take(self.name, self.limits, ask)
            except LimiterAway as error:
                log.warning("%s; calls to %s wait", error, self.name)
                wait = REFRESH_SECONDS
                self._floor, self._force = max(self._floor, ask.floor), self._force or ask.force
                self._tokens += min(0, ask.refund_tokens)
                continue
            self._got(grant)
            wait = grant.wait
            self.pump()
            if max(wait, grant.rest) > self._patience:
                self._send_away(max(wait, grant.rest))

    async def _pause(self, last: float, wait: float) -> None:
        """Sleep until the next exchange is due; if nobody waits for one, somebody's coming ends it."""
        if not self._waiters:
            try:
                # wait_for() of Python 3.11 would lose a cancel that comes together with the event.
                async with asyncio.timeout(REFRESH_SECONDS if self._in_flight else None):
                    await self._wanted.wait()
            except TimeoutError:
                return
        fresh = time.monotonic() < self._fresh_until
        hurry = not fresh or self._limited
        gap = max(SHORTEST_GAP, min(wait, REFRESH_SECONDS)) if hurry else REFRESH_SECONDS
        await asyncio.sleep(max(0.0, last + gap - time.monotonic()))

    @property
    def _limited(self) -> bool:
        """Whether the scope itself, and not only the process's budget, can be what waiters wait for."""
        return bool(self.limits.requests_per_minute or self.limits.tokens_per_minute or self.limits.concurrency)

    def _ask(self) -> Ask:
        self._wanted.clear()
        waiting = [cost for costs, _ in self._waiters for cost in costs]
        limit = self.limits
        requests = min(len(waiting), self._portion(limit.requests_per_minute, len(waiting)))
        tokens = sum(cost.tokens for cost in waiting[:requests])
        idle = not waiting and time.monotonic() - self._used_at > LEASE_SECONDS
        debt, self._tokens = min(0, self._tokens), max(0, self._tokens)
        ask = Ask(
            requests=max(0, requests - max(0, self._requests)) if limit.requests_per_minute else requests,
            tokens=max(0, min(tokens, self._portion(limit.tokens_per_minute, tokens)) - self._tokens),
            least_tokens=max(0, waiting[0].tokens - self._tokens) if waiting else 0,
            refund_requests=max(0, self._requests) if idle and limit.requests_per_minute else 0,
            refund_tokens=debt or (self._tokens if idle and limit.tokens_per_minute else 0),
            slots=self._in_flight + min(len(waiting), self._budget.calls),
            busy=self._in_flight,
            urgent=self._urgent,
            answers=self._answers,
            floor=self._floor,
            force=self._force,
        )
        if idle:
            self._requests, self._tokens = min(0, self._requests), 0
        self._answers, self._floor, self._force = "", 0.0, False
        return ask

    def _got(self, grant: Grant) -> None:
        now = time.monotonic()
        self._requests = self._requests + grant.requests if self.limits.requests_per_minute else 0
        self._tokens = self._tokens + grant.tokens if self.limits.tokens_per_minute else 0
        self._slots = grant.slots
        self._rest_until = now + grant.rest
        self._fresh_until = now + PATIENCE

    def _portion(self, per_minute: float | None, otherwise: int) -> int:
        return otherwise if not per_minute else max(1, round(per_minute / 60 * LEASE_SECONDS))

    def _send_away(self, wait: float) -> None:
        while self._waiters:
            _, future = self._waiters.popleft()
            if not future.done():
                future.set_result(Admission(0, wait))
