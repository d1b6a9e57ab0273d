import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from worker.catalog import ScopeLimits
from worker.limiter import gate as gates
from worker.limiter.exchange import Ask, Exchange, Grant, LimiterAway
from worker.limiter.gate import Admission, Cost, Gate, ProcessBudget, ScopeGate

SMALL = Cost(tokens=10, bytes=100)
NOWHERE = "redis://127.0.0.1:9"
DEADLINE = 20.0


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "REFRESH_SECONDS", 0.05)


@asynccontextmanager
async def opened(url: str, *, process: str = "a", calls: int = 1_000, body_bytes: int = 1 << 20) -> AsyncIterator[Gate]:
    async with Redis.from_url(url, retry=Retry(NoBackoff(), 0)) as client:
        gate = Gate(Exchange(client, process), ProcessBudget(calls, body_bytes))
        try:
            yield gate
        finally:
            await gate.close()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(DEADLINE):
            await scenario()

    asyncio.run(main())


async def admitted(scope: ScopeGate, wanted: int, cost: Cost = SMALL) -> int:
    """Admit that many calls, however many turns it takes; how many turns came back empty."""
    empty = 0
    while wanted:
        admission = await scope.admit([cost] * min(64, wanted))
        wanted -= admission.count
        if admission.count == 0:
            empty += 1
            await asyncio.sleep(min(admission.wait, 0.05))
    return empty


async def soon(condition: Callable[[], Any]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def answer_by(scope: ScopeGate, take: Any) -> None:
    scope._exchange.take = take  # type: ignore[method-assign]


async def is_waiting(task: "asyncio.Task[Any]", scope: ScopeGate) -> bool:
    """Whether the task still waits after the scope has been asked twice."""
    asked = []
    take = scope._exchange.take

    async def noted(name: str, limits: ScopeLimits, ask: Ask) -> Grant:
        grant = await take(name, limits, ask)
        asked.append(grant)
        return grant

    answer_by(scope, noted)
    try:
        await soon(lambda: len(asked) >= 2 or task.done())
    finally:
        answer_by(scope, take)
    return not task.done()


def test_without_limits_all_begin_at_once(valkey: str) -> None:
    async def scenario() -> None:
        async with opened(valkey) as gate:
            scope = gate.scope("s", ScopeLimits())
            assert await scope.admit([SMALL] * 64) == Admission(64)
            assert gate.budget.in_flight == 64

    run(scenario)


def test_waiters_are_served_in_turn(valkey: str) -> None:
    async def scenario() -> None:
        async with opened(valkey, calls=2) as gate:
            scope = gate.scope("s", ScopeLimits())
            order: list[int] = []

            async def one(number: int) -> None:
                await admitted(scope, 1)
                order.append(number)

            await admitted(scope, 2)
            tasks = []
            for number in range(6):
                tasks.append(asyncio.create_task(one(number)))
                await asyncio.sleep(0)
            for done in range(6):
                assert len(order) == done
                scope.ended(SMALL, None)
                await soon(lambda done=done: len(order) == done + 1)  # type: ignore[misc]
            assert order == list(range(6))

    run(scenario)


def test_a_turn_takes_what_fits_and_goes_to_the_end(valkey: str) -> None:
    async def scenario() -> None:
        async with opened(valkey, calls=10) as gate:
            scope = gate.scope("s", ScopeLimits())
            assert (await scope.admit([SMALL] * 64)).count == 10

    run(scenario)


def test_bodies_in_memory_are_bounded(valkey: str) -> None:
    async def scenario() -> None:
        async with opened(valkey, body_bytes=250) as gate:
            scope = gate.scope("s", ScopeLimits())
            assert (await scope.admit([SMALL] * 64)).count == 2
            huge = asyncio.create_task(scope.admit([Cost(tokens=1, bytes=900)]))
            assert await is_waiting(huge, scope)
            scope.ended(SMALL, None)
            assert await is_waiting(huge, scope)
            scope.ended(SMALL, None)
            assert (await huge).count == 1
            assert gate.budget.bytes_in_flight == 900

    run(scenario)


def test_what_one_scope_frees_another_may_use(valkey: str) -> None:
    async def scenario() -> None:
        async with opened(valkey, calls=1) as gate:
            first, second = gate.scope("s", ScopeLimits()), gate.scope("t", ScopeLimits())
            await admitted(first, 1)
            waiting = asyncio.create_task(second.admit([SMALL]))
            assert await is_waiting(waiting, second)
            first.ended(SMALL, None)
            assert (await waiting).count == 1

    run(scenario)


def test_calls_that_did_not_begin_give_everything_back(valkey: str) -> None:
    async def scenario() -> None:
        limits = ScopeLimits(requests_per_minute=60, tokens_per_minute=6_000)
        async with opened(valkey) as gate, opened(valkey, process="b") as other:
            scope, theirs = gate.scope("s", limits), other.scope("s", limits)
            assert (await scope.admit([SMALL])).count == 1
            scope.unused([SMALL])
            assert gate.budget.in_flight == gate.budget.bytes_in_flight == 0
            assert (await theirs.admit([SMALL])).count == 1

    run(scenario)


def test_concurrency_is_kept_over_processes(valkey: str) -> None:
    async def scenario() -> None:
        limits = ScopeLimits(concurrency=4)
        async with opened(valkey) as gate, opened(valkey, process="b") as other:
            mine, theirs = gate.scope("s", limits), other.scope("s", limits)
            assert (await mine.admit([SMALL] * 9)).count == 4
            waiting = asyncio.create_task(theirs.admit([SMALL] * 9))
            assert await is_waiting(waiting, theirs)
            mine.ended(SMALL, None)
            assert (await waiting).count == 1
            assert gate.budget.in_flight + other.budget.in_flight == 4

    run(scenario)


def test_requests_left_over_get_their_tokens_later(valkey: str) -> None:
    """Tokens are scarcer than requests: what was granted of the one must not lock out the other."""

    async def scenario() -> None:
        async with opened(valkey) as gate:
            scope = gate.scope("s", ScopeLimits(requests_per_minute=60_000, tokens_per_minute=6_000))
            await admitted(scope, 30)
            assert gate.budget.in_flight == 30

    run(scenario)


def test_the_rate_holds_over_two_processes(valkey: str) -> None:
    async def scenario() -> None:
        limits = ScopeLimits(requests_per_minute=3_000)
        async with opened(valkey) as gate, opened(valkey, process="b") as other:
            began = time.monotonic()
            await asyncio.gather(
                admitted(gate.scope("s", limits), 60), admitted(other.scope("s", limits), 60, Cost(tokens=0, bytes=1))
            )
            assert 50 + 50 * (time.monotonic() - began) >= 120

    run(scenario)


def test_true_usage_corrects_the_estimate(valkey: str) -> None:
    async def scenario() -> None:
        async with opened(valkey) as gate, opened(valkey, process="b") as other:
            scope = gate.scope("s", ScopeLimits(tokens_per_minute=6_000))
            assert (await scope.admit([Cost(tokens=100, bytes=1)])).count == 1
            scope.ended(Cost(tokens=100, bytes=1), 3_000)
            await soon(lambda: scope._tokens >= 0)
            later = await other.scope("s", scope.limits).admit([Cost(tokens=10, bytes=1)])
            assert later.count == 0 and later.wait > 25

    run(scenario)


def test_who_would_wait_too_long_is_sent_away_with_the_wait(valkey: str) -> None:
    async def scenario() -> None:
        async with opened(valkey) as gate:
            scope = gate.scope("s", ScopeLimits(requests_per_minute=1))
            assert (await scope.admit([SMALL])).count == 1
            first, second = await asyncio.gather(scope.admit([SMALL] * 5), scope.admit([SMALL]))
            for answer in (first, second):
                assert answer.count == 0 and 50 < answer.wait <= 60
            assert gate.budget.in_flight == 1

    run(scenario)


def test_an_episode_of_429s_rests_the_scope(valkey: str) -> None:
    async def scenario() -> None:
        async with opened(valkey) as gate, opened(valkey, process="b") as other:
            scope = gate.scope("s", ScopeLimits())
            await admitted(scope, 5)
            for _ in range(5):
                scope.answered(refused=True, floor=30.0)
                scope.ended(SMALL, None)
            await soon(lambda: not scope._answers)
            answer = await other.scope("s", ScopeLimits()).admit([SMALL])
            assert answer.count == 0 and 25 < answer.wait <= 30

    run(scenario)


def test_a_stray_429_rests_nobody(valkey: str) -> None:
    async def scenario() -> None:
        async with opened(valkey) as gate:
            scope = gate.scope("s", ScopeLimits())
            await admitted(scope, 2)
            scope.answered(refused=True, floor=30.0)
            await soon(lambda: not scope._answers)
            assert (await scope.admit([SMALL])).count == 1

    run(scenario)


def test_who_gives_up_waiting_takes_nothing(valkey: str) -> None:
    async def scenario() -> None:
        async with opened(valkey, calls=1) as gate:
            scope = gate.scope("s", ScopeLimits())
            await admitted(scope, 1)
            waiting = asyncio.create_task(scope.admit([SMALL]))
            assert await is_waiting(waiting, scope)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            scope.ended(SMALL, None)
            assert gate.budget.in_flight == gate.budget.bytes_in_flight == 0
            assert (await scope.admit([SMALL])).count == 1

    run(scenario)


def test_while_the_limiter_is_away_calls_wait_and_none_fails(valkey: str) -> None:
    async def scenario() -> None:
        async with opened(valkey) as gate:
            scope = gate.scope("s", ScopeLimits())
            take, tries = scope._exchange.take, []

            async def away(name: str, limits: ScopeLimits, ask: Ask) -> Grant:
                tries.append(ask)
                raise LimiterAway("gone")

            answer_by(scope, away)
            waiting = asyncio.create_task(scope.admit([SMALL]))
            await soon(lambda: len(tries) >= 3)
            assert not waiting.done()
            answer_by(scope, take)
            assert (await waiting).count == 1

    run(scenario)


def test_a_429_that_could_not_be_told_is_told_later(valkey: str) -> None:
    async def scenario() -> None:
        async with opened(valkey) as gate:
            scope = gate.scope("s", ScopeLimits())
            await admitted(scope, 1)
            take, tries = scope._exchange.take, []

            async def away(name: str, limits: ScopeLimits, ask: Ask) -> Grant:
                tries.append(ask)
                raise LimiterAway("gone")

            answer_by(scope, away)
            scope.answered(refused=True, floor=30.0, force=True)
            await soon(lambda: len(tries) >= 2)
            answer_by(scope, take)
            answer = await scope.admit([SMALL])
            while answer.count:
                answer = await scope.admit([SMALL])
            assert answer.wait > 20

    run(scenario)


def test_a_server_that_refuses_connections_is_only_away() -> None:
    async def scenario() -> None:
        async with opened(NOWHERE) as gate:
            waiting = asyncio.create_task(gate.scope("s", ScopeLimits()).admit([SMALL]))
            done, _ = await asyncio.wait([waiting], timeout=0.2)
            assert not done
            waiting.cancel()
            await asyncio.wait([waiting])

    run(scenario)
