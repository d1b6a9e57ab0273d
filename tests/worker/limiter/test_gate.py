import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from worker.catalog import ScopeLimits
from worker.limiter import gate as gates
from worker.limiter.answers import Refusal
from worker.limiter.cost import Cost
from worker.limiter.exchange import Ask, Exchange, Grant, LimiterAway
from worker.limiter.gate import Gate, ProcessBudget, ScopeGate
from worker.limiter.line import Admission, Standing

SMALL = Cost(5, 5, 100)
BATCH = Standing(batch=1)
NOWHERE = "redis://127.0.0.1:9"
DEADLINE = 20.0


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "REFRESH_SECONDS", 0.05)


@asynccontextmanager
async def opened(url: str, *, process: str = "a", calls: int = 1_000, body_bytes: int = 1 << 20) -> AsyncIterator[Gate]:
    failed: list[asyncio.Task[None]] = []
    async with Redis.from_url(url, retry=Retry(NoBackoff(), 0)) as client:
        gate = Gate(Exchange(client, process), ProcessBudget(calls, body_bytes), failed.append)
        try:
            yield gate
            assert not failed
        finally:
            await gate.close()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(DEADLINE):
            await scenario()

    asyncio.run(main())


async def admitted(scope: ScopeGate, wanted: int, cost: Cost = SMALL, standing: Standing = BATCH) -> int:
    """Admit that many calls, however many turns it takes; how many turns came back empty."""
    empty = 0
    while wanted:
        admission = await scope.admit([cost] * min(64, wanted), standing)
        wanted -= admission.count
        if admission.count == 0:
            empty += 1
            await asyncio.sleep(min(admission.wait, 0.05))
    return empty


def admitting(scope: ScopeGate, costs: Sequence[Cost], standing: Standing = BATCH) -> "asyncio.Task[Admission]":
    return asyncio.create_task(scope.admit(costs, standing))


def fine(scope: ScopeGate, count: int, headers: dict[str, str] | None = None) -> None:
    for _ in range(count):
        scope.answers.accepted(seconds=0.01, headers=headers or {}, sent_at=time.monotonic())


def refused(scope: ScopeGate, count: int, refusal: Refusal) -> None:
    for _ in range(count):
        scope.refused(refusal, headers={}, sent_at=time.monotonic())
        scope.ended(SMALL, None)


async def soon(condition: Callable[[], Any]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def answer_by(scope: ScopeGate, take: Any) -> None:
    scope._exchange.take = take  # type: ignore[method-assign]


async def asked(scope: ScopeGate, times: int, done: Callable[[], bool] = lambda: False) -> list[Ask]:
    """What the scope was asked until it was answered so many times more, or until this is done."""
    asks = []
    take = scope._exchange.take

    async def noted(name: str, limits: ScopeLimits, ask: Ask) -> Grant:
        grant = await take(name, limits, ask)
        if name == scope.name:
            asks.append(ask)
        return grant

    answer_by(scope, noted)
    try:
        await soon(lambda: len(asks) >= times or done())
    finally:
        answer_by(scope, take)
    return asks


async def is_waiting(task: "asyncio.Task[Any]", scope: ScopeGate) -> bool:
    """Whether the task still waits after the scope has been asked twice."""
    await asked(scope, 2, task.done)
    return not task.done()


def test_without_limits_all_that_the_window_bears_begin_at_once(valkey: str) -> None:
    async def scenario() -> None:
        async with opened(valkey) as gate:
            scope = gate.scope("s", ScopeLimits())
            assert await scope.admit([SMALL] * 16, BATCH) == Admission(16)
            assert gate.budget.in_flight == scope.in_flight == 16

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


def test_a_turn_takes_what_fits(valkey: str) -> None:
    async def scenario() -> None:
        async with opened(valkey, calls=10) as gate:
            scope = gate.scope("s", ScopeLimits())
            assert (await scope.admit([SMALL] * 64, BATCH)).count == 10

    run(scenario)


def test_bodies_in_memory_are_bounded(valkey: str) -> None:
    async def scenario() -> None:
        async with opened(valkey, body_bytes=250) as gate:
            scope = gate.scope("s", ScopeLimits())
            assert (await scope.admit([SMALL] * 64, BATCH)).count == 2
            huge = admitting(scope, [Cost(1, 0, 900)])
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
            waiting = admitting(second, [SMALL])
            assert await is_waiting(waiting, second)
            first.ended(SMALL, None)
            assert (await waiting).count == 1

    run(scenario)


def test_calls_that_did_not_begin_give_everything_back(valkey: str) -> None:
    async def scenario() -> None:
        limits = ScopeLimits(told={"requests": 60, "tokens": 6_000})
        async with opened(valkey) as gate, opened(valkey, process="b") as other:
            scope, theirs = gate.scope("s", limits), other.scope("s", limits)
            assert (await scope.admit([SMALL], BATCH)).count == 1
            scope.unused([SMALL])
            assert gate.budget.in_flight == gate.budget.bytes_in_flight == scope.in_flight == 0
            assert (await theirs.admit([SMALL], BATCH)).count == 1

    run(scenario)


def test_concurrency_is_kept_over_processes(valkey: str) -> None:
    async def scenario() -> None:
        limits = ScopeLimits(concurrency=4)
        async with opened(valkey) as gate, opened(valkey, process="b") as other:
            mine, theirs = gate.scope("s", limits), other.scope("s", limits)
            assert (await mine.admit([SMALL] * 9, BATCH)).count == 4
            waiting = admitting(theirs, [SMALL] * 9)
            assert await is_waiting(waiting, theirs)
            mine.ended(SMALL, None)
            assert (await waiting).count == 1
            assert gate.budget.in_flight + other.budget.in_flight == 4

    run(scenario)


def test_tokens_that_are_scarcer_than_requests_do_not_lock_them_out(valkey: str) -> None:
    async def scenario() -> None:
        async with opened(valkey) as gate:
            limits = ScopeLimits(told={"requests": 60_000, "tokens": 6_000})
            await admitted(gate.scope("s", limits), 30)
            assert gate.budget.in_flight == 30

    run(scenario)


def test_the_rate_holds_over_two_processes(valkey: str) -> None:
    async def scenario() -> None:
        limits = ScopeLimits(told={"requests": 3_000}, concurrency=1_000)
        async with opened(valkey) as gate, opened(valkey, process="b") as other:
            began = time.monotonic()
            await asyncio.gather(admitted(gate.scope("s", limits), 60), admitted(other.scope("s", limits), 60))
            assert 50 + 50 * (time.monotonic() - began) >= 120

    run(scenario)


def test_true_usage_corrects_the_estimate(valkey: str) -> None:
    async def scenario() -> None:
        limits = ScopeLimits(told={"tokens": 6_000})
        async with opened(valkey) as gate, opened(valkey, process="b") as other:
            scope = gate.scope("s", limits)
            assert (await scope.admit([Cost(100, 0, 1)], BATCH)).count == 1
            scope.ended(Cost(100, 0, 1), 3_000)
            await soon(lambda: scope.report().quotas["tokens"].level < -2_000)
            later = await other.scope("s", limits).admit([SMALL], BATCH)
            assert later.count == 0 and later.wait > 25

    run(scenario)


def test_where_the_provider_counts_the_estimate_is_not_corrected(valkey: str) -> None:
    async def scenario() -> None:
        async with opened(valkey) as gate:
            scope = gate.scope("s", ScopeLimits())
            await admitted(scope, 2)
            fine(scope, 1, {"x-ratelimit-limit-tokens": "6000", "x-ratelimit-remaining-tokens": "5000"})
            scope.ended(SMALL, None)
            await soon(lambda: "tokens" in scope.report().quotas)
            scope.ended(SMALL, 3_000)
            asks = await asked(scope, 2, lambda: not scope.in_flight)
            assert all(ask.quotas["tokens"].refund >= 0 for ask in asks)

    run(scenario)


def test_a_limit_from_headers_is_kept_without_any_configuration(valkey: str) -> None:
    async def scenario() -> None:
        async with opened(valkey) as gate, opened(valkey, process="b") as other:
            scope = gate.scope("s", ScopeLimits())
            await admitted(scope, 1)
            fine(scope, 1, {"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "0"})
            await soon(lambda: "requests" in scope.report().quotas)
            assert scope.report().quotas["requests"].limit == 60 and (scope.headroom or 0) < 0.05
            waiting = admitting(other.scope("s", ScopeLimits()), [SMALL])
            assert await is_waiting(waiting, other.scope("s", ScopeLimits()))

    run(scenario)


def test_what_was_learned_earlier_counts_for_a_server_that_has_forgotten(valkey: str) -> None:
    async def scenario() -> None:
        async with opened(valkey) as gate:
            scope = gate.scope("s", ScopeLimits(known={"requests": 60}))
            assert (await scope.admit([SMALL] * 9, BATCH)).count == 1
            assert scope.report().quotas["requests"].limit == 60

    run(scenario)


def test_who_would_wait_too_long_is_sent_away_with_the_wait(valkey: str) -> None:
    async def scenario() -> None:
        async with opened(valkey) as gate:
            scope = gate.scope("s", ScopeLimits(told={"requests": 1}))
            assert (await scope.admit([SMALL], BATCH)).count == 1
            first, second = await asyncio.gather(scope.admit([SMALL] * 5, BATCH), scope.admit([SMALL], BATCH))
            for answer in (first, second):
                assert answer.count == 0 and 50 < answer.wait <= 60
            assert gate.budget.in_flight == 1

    run(scenario)


def test_held_calls_have_more_patience(valkey: str) -> None:
    async def scenario() -> None:
        async with opened(valkey) as gate:
            scope = gate.scope("s", ScopeLimits(told={"requests": 2}))
            await admitted(scope, 1)
            held = admitting(scope, [SMALL], Standing(batch=2, held=True))
            assert await is_waiting(held, scope)
            held.cancel()

    run(scenario)


def test_an_episode_of_429s_rests_the_scope(valkey: str) -> None:
    async def scenario() -> None:
        async with opened(valkey) as gate, opened(valkey, process="b") as other:
            scope = gate.scope("s", ScopeLimits())
            await admitted(scope, 5)
            refused(scope, 5, Refusal(floor=30.0))
            await soon(lambda: scope.report().rest > 0)
            answer = await other.scope("s", ScopeLimits()).admit([SMALL], BATCH)
            assert answer.count == 0 and 25 < answer.wait <= 30

    run(scenario)


def test_many_429s_stop_the_process_before_the_scope_was_heard(valkey: str) -> None:
    async def scenario() -> None:
        async with opened(valkey) as gate:
            scope = gate.scope("s", ScopeLimits())
            await admitted(scope, 4)
            refused(scope, 3, Refusal())
            waiting = admitting(scope, [SMALL])
            await asyncio.sleep(0)
            assert not waiting.done() and scope.in_flight == 1
            assert (await waiting).count == 1

    run(scenario)


def test_the_place_of_a_refused_call_stays_empty_until_the_scope_was_heard(valkey: str) -> None:
    async def scenario() -> None:
        async with opened(valkey) as gate:
            scope = gate.scope("s", ScopeLimits(concurrency=2))
            await admitted(scope, 2)
            scope.refused(Refusal(), headers={}, sent_at=time.monotonic())
            waiting = admitting(scope, [SMALL])
            await asyncio.sleep(0)
            scope.ended(SMALL, None)
            assert scope.in_flight == 1 and not waiting.done()
            assert (await waiting).count == 1

    run(scenario)


def test_a_stray_429_rests_nobody(valkey: str) -> None:
    async def scenario() -> None:
        async with opened(valkey) as gate:
            scope = gate.scope("s", ScopeLimits())
            await admitted(scope, 2)
            scope.refused(Refusal(floor=30.0), headers={}, sent_at=time.monotonic())
            asks = await asked(scope, 2)
            assert [ask.answers for ask in asks[:2]] == ["1", ""]
            assert (await scope.admit([SMALL], BATCH)).count == 1

    run(scenario)


def test_who_gives_up_waiting_takes_nothing(valkey: str) -> None:
    async def scenario() -> None:
        async with opened(valkey, calls=1) as gate:
            scope = gate.scope("s", ScopeLimits())
            await admitted(scope, 1)
            waiting = admitting(scope, [SMALL])
            assert await is_waiting(waiting, scope)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            scope.ended(SMALL, None)
            assert gate.budget.in_flight == gate.budget.bytes_in_flight == 0
            assert (await scope.admit([SMALL], BATCH)).count == 1

    run(scenario)


def test_held_calls_go_before_those_that_came_earlier(valkey: str) -> None:
    async def scenario() -> None:
        async with opened(valkey, calls=1) as gate:
            scope = gate.scope("s", ScopeLimits())
            await admitted(scope, 1)
            early = admitting(scope, [SMALL])
            held = admitting(scope, [SMALL], Standing(batch=2, held=True))
            assert await is_waiting(early, scope)
            scope.ended(SMALL, None)
            assert (await held).count == 1 and not early.done()
            scope.ended(SMALL, None)
            assert (await early).count == 1

    run(scenario)


def test_held_calls_of_another_process_get_the_only_place(valkey: str) -> None:
    async def scenario() -> None:
        limits = ScopeLimits(concurrency=1)
        async with opened(valkey) as gate, opened(valkey, process="b") as other:
            mine, theirs = gate.scope("s", limits), other.scope("s", limits)
            await admitted(mine, 1)
            early = admitting(mine, [SMALL], Standing(batch=1, answered=10_000))
            held = admitting(theirs, [SMALL], Standing(batch=2, held=True))
            assert await is_waiting(held, theirs)
            await asked(mine, 1)
            mine.ended(SMALL, None)
            assert (await held).count == 1 and not early.done()
            theirs.ended(SMALL, None)
            assert (await early).count == 1

    run(scenario)


def test_while_the_limiter_is_away_calls_wait_and_none_fails(valkey: str) -> None:
    async def scenario() -> None:
        async with opened(valkey) as gate:
            scope = gate.scope("s", ScopeLimits())
            take, tries = scope._exchange.take, away(scope)
            waiting = admitting(scope, [SMALL])
            await soon(lambda: len(tries) >= 3)
            assert not waiting.done()
            answer_by(scope, take)
            assert (await waiting).count == 1

    run(scenario)


def away(scope: ScopeGate) -> list[Ask]:
    """From now on the limiter does not answer."""
    tries: list[Ask] = []

    async def gone(name: str, limits: ScopeLimits, ask: Ask) -> Grant:
        tries.append(ask)
        raise LimiterAway("gone")

    answer_by(scope, gone)
    return tries


def test_what_was_leased_may_be_used_while_the_limiter_is_away_and_no_more(valkey: str) -> None:
    async def scenario() -> None:
        async with opened(valkey) as gate:
            scope = gate.scope("s", ScopeLimits(told={"requests": 6_000}))
            await admitted(scope, 1)
            first = admitting(scope, [SMALL] * 25)
            await first
            scope.unused([SMALL] * 5)
            tries = away(scope)
            assert 5 <= (await scope.admit([SMALL] * 64, BATCH)).count < 64
            rest = admitting(scope, [SMALL] * 64)
            await soon(lambda: len(tries) >= 2)
            assert not rest.done()
            rest.cancel()

    run(scenario)


def test_a_lease_that_nobody_renewed_ends(valkey: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "PATIENCE", 0.0)

    async def scenario() -> None:
        async with opened(valkey) as gate:
            scope = gate.scope("s", ScopeLimits())
            tries = away(scope)
            waiting = admitting(scope, [SMALL])
            await soon(lambda: len(tries) >= 2)
            assert not waiting.done()
            waiting.cancel()

    run(scenario)


def test_what_must_not_be_forgotten_is_told_later(valkey: str) -> None:
    async def scenario() -> None:
        async with opened(valkey) as gate:
            scope = gate.scope("s", ScopeLimits(told={"tokens": 6_000}))
            await admitted(scope, 2)
            take, tries = scope._exchange.take, away(scope)
            scope.refused(Refusal(floor=30.0, force=True), headers={}, sent_at=time.monotonic())
            scope.ended(SMALL, 500)
            await soon(lambda: len(tries) >= 2)
            assert all((ask.floor, ask.force) == (30.0, True) for ask in tries[1:])
            assert tries[-1].quotas["tokens"].refund < -400
            answer_by(scope, take)
            answer = await scope.admit([SMALL], BATCH)
            while answer.count:
                answer = await scope.admit([SMALL], BATCH)
            assert answer.wait > 20

    run(scenario)


def test_a_server_that_refuses_connections_is_only_away() -> None:
    async def scenario() -> None:
        async with opened(NOWHERE) as gate:
            waiting = admitting(gate.scope("s", ScopeLimits()), [SMALL])
            done, _ = await asyncio.wait([waiting], timeout=0.2)
            assert not done
            waiting.cancel()
            await asyncio.wait([waiting])

    run(scenario)


def test_the_end_of_a_scope_s_task_is_told(valkey: str) -> None:
    async def scenario() -> None:
        failed: list[asyncio.Task[None]] = []
        async with Redis.from_url(valkey) as client:
            gate = Gate(Exchange(client, "a"), ProcessBudget(9, 999), failed.append)
            scope = gate.scope("s", ScopeLimits())

            async def broken(*_: object) -> Grant:
                raise KeyError("a defect")

            answer_by(scope, broken)
            waiting = admitting(scope, [SMALL])
            await soon(lambda: failed)
            assert isinstance(failed[0].exception(), KeyError)
            waiting.cancel()
            await gate.close()

    run(scenario)


def test_closing_ends_the_exchange_while_somebody_waits(valkey: str) -> None:
    async def scenario() -> None:
        async with Redis.from_url(valkey) as client:
            gate = Gate(Exchange(client, "a"), ProcessBudget(0, 999), lambda _: None)
            waiting = admitting(gate.scope("s", ScopeLimits()), [SMALL])
            await asyncio.sleep(0)
            await gate.close()
            assert not waiting.done()
            waiting.cancel()
            assert len(asyncio.all_tasks()) <= 2

    run(scenario)


def test_a_report_tells_what_is_known(valkey: str) -> None:
    async def scenario() -> None:
        async with opened(valkey) as gate:
            scope = gate.scope("s", ScopeLimits(told={"requests": 60}, concurrency=7))
            unknown = scope.headroom
            assert unknown is None
            await admitted(scope, 1)
            fine(scope, 1)
            [report] = gate.reports()
            assert (report.scope, report.in_flight, report.waiting, report.window) == ("s", 1, 0, 7)
            assert report.quotas["requests"].limit == 60 and report.latency == scope.latency > 0
            assert report.rest == 0 and 0 <= (scope.headroom or 0) < 1

    run(scenario)
