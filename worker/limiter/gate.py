"""Admission: which calls may begin now. Per scope a locally leased budget, per process a number and bytes of calls."""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence

from providers.rate_limits import PERIOD_SECONDS, QUOTAS
from worker.catalog import ScopeLimits
from worker.limiter.answers import Answers, News, Refusal
from worker.limiter.cost import Cost
from worker.limiter.exchange import Ask, Exchange, Grant, LimiterAway, QuotaAsk, QuotaGrant
from worker.limiter.line import Admission, Line, Standing
from worker.limiter.report import ScopeReport

log = logging.getLogger("gristmill.limiter")

LEASE_SECONDS = 0.25
"""Of a scope's quota, so much is taken at a time."""
SHORTEST_GAP = 0.05
REFRESH_SECONDS = 1.0
"""A scope in use is asked at least this often: for its rest, and to keep its part of the concurrency."""
PATIENCE = 5.0
"""Who would have to wait longer is told so, and gives its jobs back."""
HELD_PATIENCE = 60.0
"""While held calls wait: whoever gives back loses its place to those that are not held."""


Failed = Callable[["asyncio.Task[None]"], object]
"""Told when the task of a scope has ended, by whatever: without it nothing would ever be admitted again."""


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
    """All scopes of a process. Lives on the engine's loop."""

    def __init__(self, exchange: Exchange, budget: ProcessBudget, failed: Failed) -> None:
        self._exchange = exchange
        self._failed = failed
        self.budget = budget
        self._scopes: dict[str, ScopeGate] = {}

    def scope(self, name: str, limits: ScopeLimits) -> "ScopeGate":
        gate = self._scopes.get(name)
        if gate is None:
            gate = self._scopes[name] = ScopeGate(name, limits, self._exchange, self.budget, self.pump, self._failed)
        gate.limits = limits
        return gate

    def pump(self) -> None:
        """Something of the process's budget is free again: every scope may have a waiting call for it."""
        for gate in self._scopes.values():
            gate.pump()

    def reports(self) -> list[ScopeReport]:
        """Of every scope that was used."""
        return [gate.report() for gate in self._scopes.values()]

    async def close(self) -> None:
        for gate in self._scopes.values():
            await gate.close()


class ScopeGate:
    """One scope: who waits, what is left of the leased budget, and the exchange that gets more."""

    def __init__(
        self,
        name: str,
        limits: ScopeLimits,
        exchange: Exchange,
        budget: ProcessBudget,
        freed: Callable[[], None],
        failed: Failed,
    ) -> None:
        self.name = name
        self.limits = limits
        self.answers = Answers(limits.dialect)
        self._exchange = exchange
        self._budget = budget
        self._freed = freed
        self._failed = failed
        self._line = Line()
        self._purse: dict[str, float] = {}
        self._quotas: dict[str, QuotaGrant] = {}
        self._slots = 0
        self._window = 0.0
        self._share = limits.share
        self._in_flight = 0
        self._tokens_in_flight = 0
        self._sent = 0
        self._rest_until = 0.0
        self._fresh_until = 0.0
        self._used_at = 0.0
        self._wanted = asyncio.Event()
        self._hurry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def admit(self, costs: Sequence[Cost], standing: Standing) -> Admission:
        """Wait until at least the first of these calls may begin, or until it is known to take too long."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._keep_exchanging())
            self._task.add_done_callback(self._failed)
        waiter = self._line.join(costs, standing)
        self.pump()
        try:
            return await waiter.answer
        except asyncio.CancelledError:
            self._line.leave(waiter)
            raise

    def unused(self, costs: Sequence[Cost]) -> None:
        """Admitted calls that did not begin: all that they had taken is given back."""
        for quota in self._quotas:
            self._purse[quota] += sum(cost.of(quota) for cost in costs)
        self._sent -= len(costs)
        self._leave(costs)

    def ended(self, cost: Cost, tokens: int | None) -> None:
        """A call is over; ``tokens`` is what it really took, if known: it corrects the estimate where nobody counts."""
        grant = self._quotas.get("tokens")
        if grant is not None and grant.by != "headers" and tokens is not None:
            self._purse["tokens"] += cost.tokens - tokens
        self._leave((cost,))

    def refused(self, refusal: Refusal, *, headers: Mapping[str, str], sent_at: float) -> None:
        """A 429: its place stays empty until the scope was heard, and many of them stop everything until then."""
        self.answers.refused(refusal, headers=headers, sent_at=sent_at)
        self._slots -= 1
        self._wanted.set()
        if self.answers.alarming:
            self._hurry.set()

    def pump(self) -> None:
        while (turn := self._line.next()) is not None:
            count = self._affordable(turn.costs)
            if count == 0:
                self._wanted.set()
                if self._is_short:
                    self._hurry.set()
                return
            self._enter(turn.costs[:count])
            self._line.serve(turn, count)

    @property
    def in_flight(self) -> int:
        """Calls of this process."""
        return self._in_flight

    @property
    def latency(self) -> float:
        """Mean seconds of the last calls; 0 while there was none."""
        return self.answers.latency

    @property
    def headroom(self) -> float | None:
        """What part of a minute (or day) of its scarcest quota may be taken now, from 0; None if none is known."""
        parts = [max(0.0, one.level) / one.limit for one in self._quotas.values()]
        return min(parts, default=None)

    def report(self) -> ScopeReport:
        return ScopeReport(
            scope=self.name,
            quotas=dict(self._quotas),
            window=self._window,
            in_flight=self._in_flight,
            waiting=len(self._line.costs(self._budget.calls)),
            rest=max(0.0, self._rest_until - time.monotonic()),
            share=self._share,
            latency=self.latency,
        )

    async def close(self) -> None:
        # More than once: a cancel can be lost inside the client of Valkey.
        while self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=0.1)

    def _enter(self, costs: Sequence[Cost]) -> None:
        self._used_at = time.monotonic()
        for quota in self._quotas:
            self._purse[quota] -= sum(cost.of(quota) for cost in costs)
        self._sent += len(costs)
        self._count(costs, 1)

    def _leave(self, costs: Sequence[Cost]) -> None:
        self._count(costs, -1)
        if self._in_flight == 0 and not self._line:
            self._wanted.set()  # others may be waiting for the places
        self._freed()

    def _count(self, costs: Sequence[Cost], sign: int) -> None:
        self._in_flight += sign * len(costs)
        self._tokens_in_flight += sign * sum(cost.tokens for cost in costs)
        self._budget.in_flight += sign * len(costs)
        self._budget.bytes_in_flight += sign * sum(cost.bytes for cost in costs)

    def _affordable(self, costs: Sequence[Cost]) -> int:
        now = time.monotonic()
        if now < self._rest_until or now > self._fresh_until or self.answers.alarming:
            return 0
        left = {quota: self._purse[quota] for quota in self._quotas}
        count = size = 0
        for cost in costs:
            size += cost.bytes
            if self._in_flight + count >= self._slots or not self._budget.fits(count + 1, size):
                break
            if any(cost.of(quota) > amount for quota, amount in left.items()):
                break
            for quota in left:
                left[quota] -= cost.of(quota)
            count += 1
        return count

    async def _keep_exchanging(self) -> None:
        wait, last = 0.0, float("-inf")
        while True:
            await self._pause(last, wait)
            last = time.monotonic()
            ask, limits = self._ask(), self.limits
            try:
                grant = await self._exchange.take(self.name, limits, ask)
            except LimiterAway as error:
                log.warning("%s; calls to %s wait", error, self.name)
                wait = REFRESH_SECONDS
                self._untold(ask)
                continue
            self._got(grant)
            self._share = limits.share
            wait = grant.wait
            self.pump()
            if max(wait, grant.rest) > (HELD_PATIENCE if self._line.has_held else PATIENCE):
                self._line.send_away(max(wait, grant.rest))

    async def _pause(self, last: float, wait: float) -> None:
        """Sleep until the next exchange is due; if nobody waits for one, somebody's coming ends it."""
        if not self._line:
            try:
                # wait_for() of Python 3.11 would lose a cancel that comes together with the event.
                async with asyncio.timeout(REFRESH_SECONDS if self._in_flight else None):
                    await self._wanted.wait()
            except TimeoutError:
                return
        await self._sleep_until(last + max(SHORTEST_GAP, min(wait, REFRESH_SECONDS)))
        if time.monotonic() < self._fresh_until and not self.answers.alarming and not self._is_short:
            self._hurry.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, last + REFRESH_SECONDS - time.monotonic())):
                    await self._hurry.wait()

    async def _sleep_until(self, moment: float) -> None:
        await asyncio.sleep(max(0.0, moment - time.monotonic()))

    @property
    def _is_short(self) -> bool:
        """Whether the scope itself, and not only the process's budget, is what the first in the line waits for."""
        turn = self._line.next()
        if turn is None:
            return bool(self._quotas)
        first = turn.costs[0]
        return self._in_flight >= self._slots or any(first.of(quota) > self._purse[quota] for quota in self._quotas)

    def _ask(self) -> Ask:
        self._wanted.clear()
        waiting = self._line.costs(self._budget.calls)
        news = self.answers.take()
        idle = not waiting and time.monotonic() - self._used_at > LEASE_SECONDS
        named = {*self._quotas, *self.limits.told, *self.limits.known, *news.seen}
        wanted = [quota for quota in QUOTAS if quota in named]
        ask = Ask(
            quotas={quota: self._quota_ask(quota, waiting, idle=idle, news=news) for quota in wanted},
            waiting=len(waiting),
            busy=self._in_flight,
            busy_tokens=self._tokens_in_flight,
            sent=self._sent,
            accepted=news.accepted,
            accepted_tokens=news.tokens,
            refused=news.refused,
            broken=news.broken,
            answers=news.answers,
            cause=news.cause,
            seconds=news.seconds,
            floor=news.floor,
            force=news.force,
            urgency=self._line.urgency,
            urgent=self._line.urgent(),
        )
        self._sent = 0
        return ask

    def _quota_ask(self, quota: str, waiting: Sequence[Cost], *, idle: bool, news: News) -> QuotaAsk:
        have = self._purse.get(quota, 0.0)
        amounts = [cost.of(quota) for cost in waiting]
        first = amounts[0] if amounts else 0
        grant = self._quotas.get(quota)
        told = self.limits.told.get(quota)
        limit = told if grant is None else grant.limit
        portion = math.inf if limit is None else limit / PERIOD_SECONDS[quota] * LEASE_SECONDS
        wanted = min(sum(amounts), max(first, portion))
        refund = have if have < 0 or idle else 0.0
        if refund:
            self._purse[quota] = have = 0.0
        seen = news.seen.get(quota)
        return QuotaAsk(
            told=told,
            known=self.limits.known.get(quota),
            want=max(0, wanted - have),
            least=max(0, first - have),
            unspent=have,
            refund=refund,
            seen=seen,
            seen_age=news.seen_age,
        )

    def _got(self, grant: Grant) -> None:
        now = time.monotonic()
        self._quotas = dict(grant.quotas)
        self._purse = {quota: self._purse.get(quota, 0.0) + one.granted for quota, one in grant.quotas.items()}
        self._slots = grant.slots
        self._window = grant.window
        self._rest_until = now + grant.rest
        self._fresh_until = now + PATIENCE
        self._line.limits({quota: one.limit / PERIOD_SECONDS[quota] for quota, one in grant.quotas.items()})

    def _untold(self, ask: Ask) -> None:
        """The exchange failed: what must not be forgotten is told next time."""
        self.answers.keep(floor=ask.floor, force=ask.force)
        if ask.floor:
            self._wanted.set()
        for quota, one in ask.quotas.items():
            if one.refund and quota in self._purse:
                self._purse[quota] += one.refund
