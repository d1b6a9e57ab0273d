import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from tests.worker.limiter.conftest import Connect
from worker.catalog import ScopeLimits
from worker.limiter import exchange
from worker.limiter.exchange import Ask, Exchange, Grant, LimiterAway

SCOPE = "mill/default/flour"
KEY = f"gristmill:scope:{SCOPE}"
NO_LIMITS = ScopeLimits()


class Scope:
    """One scope as two processes see it."""

    def __init__(self, client: "Redis", **limits: Any) -> None:
        self.client = client
        self.limits = ScopeLimits(**limits)
        self._exchanges: dict[str, Exchange] = {}

    async def take(self, process: str = "a", **ask: Any) -> Grant:
        one = self._exchanges.setdefault(process, Exchange(self.client, process))
        return await one.take(SCOPE, self.limits, Ask(**ask))

    async def pass_seconds(self, seconds: float) -> None:
        """Move what the script remembers into the past."""
        for name in ("requests.at", "tokens.at", "floor"):
            if value := await self.client.hget(KEY, name):
                await self.client.hset(KEY, name, str(int(value) - round(seconds * 1000)))

    async def until_granted(self, process: str = "a", **ask: Any) -> Grant:
        end = time.monotonic() + 10
        while time.monotonic() < end:
            grant = await self.take(process, **ask)
            if grant.requests or grant.slots:
                return grant
            await asyncio.sleep(0.005)
        raise AssertionError("nothing was granted")


Scenario = Callable[[Scope], Awaitable[None]]


def run(connect: Connect, scenario: Scenario, **limits: Any) -> None:
    async def main() -> None:
        async with connect() as client:
            await scenario(Scope(client, **limits))

    asyncio.run(main())


def test_without_limits_everything_is_granted(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        assert await scope.take(requests=700, tokens=9, slots=8) == Grant(
            requests=700, tokens=0, slots=8, wait=0.0, rest=0.0
        )

    run(connect, scenario)


def test_a_missing_bucket_starts_with_one_second_of_quota(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        grant = await scope.take(requests=100)
        assert (grant.requests, grant.wait) == (10, 0.0)
        empty = await scope.take("b", requests=100)
        assert empty.requests <= 1 and (empty.requests or 0 < empty.wait <= 0.1)

    run(connect, scenario, requests_per_minute=600)


def test_less_than_one_request_a_second_still_begins_with_one(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        assert (await scope.take(requests=5)).requests == 1
        waiting = await scope.take("b", requests=5)
        assert waiting.requests == 0 and 59 < waiting.wait <= 60
        await scope.pass_seconds(waiting.wait)
        assert (await scope.take("b", requests=5)).requests == 1

    run(connect, scenario, requests_per_minute=1)


def test_time_refills_up_to_one_second_and_no_more(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        await scope.take(requests=10)
        await scope.pass_seconds(3600)
        assert (await scope.take(requests=100)).requests == 10

    run(connect, scenario, requests_per_minute=600)


def test_two_processes_together_get_the_rate_and_never_more(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        began, granted, end = await _time(scope.client), [0, 0], time.monotonic() + 0.6

        async def hungry(place: int) -> None:
            while time.monotonic() < end:
                granted[place] += (await scope.take("ab"[place], requests=7, tokens=70, least_tokens=10)).requests
                await asyncio.sleep(0.001)

        await asyncio.gather(hungry(0), hungry(1))
        most = 100 + 100 * (await _time(scope.client) - began)
        assert most - 15 <= sum(granted) <= most

    run(connect, scenario, requests_per_minute=6_000, tokens_per_minute=60_000)


async def _time(client: "Redis") -> float:
    seconds, micros = await client.time()
    return float(seconds + micros / 1_000_000)


def test_without_tokens_no_request_is_granted(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        first = await scope.take(requests=2, tokens=20, least_tokens=10)
        assert (first.requests, first.tokens) == (2, 10)
        second = await scope.take(requests=2, tokens=20, least_tokens=10)
        assert (second.requests, second.tokens) == (0, 0) and 0.9 < second.wait <= 1.0
        await scope.pass_seconds(second.wait)
        assert (await scope.take(requests=2, tokens=20, least_tokens=10)).requests == 2

    run(connect, scenario, requests_per_minute=60_000, tokens_per_minute=600)


def test_tokens_are_granted_alone_for_requests_granted_before(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        assert (await scope.take(requests=0, tokens=30, least_tokens=10)).tokens == 10
        grant = await scope.take(requests=0, tokens=5, least_tokens=10)
        assert grant.tokens == 0 and grant.wait > 0.5

    run(connect, scenario, requests_per_minute=600, tokens_per_minute=600)


def test_a_job_larger_than_the_bucket_passes_when_it_is_full_and_leaves_a_debt(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        grant = await scope.take(requests=1, tokens=5_000, least_tokens=5_000)
        assert (grant.requests, grant.tokens) == (1, 5_000)
        debt = await scope.take("b", requests=1, tokens=1, least_tokens=1)
        assert debt.requests == 0 and 498 < debt.wait <= 500
        assert await scope.client.pttl(KEY) > 1000 * debt.wait
        await scope.pass_seconds(debt.wait - 1)
        assert (await scope.take("b", requests=1, tokens=1, least_tokens=1)).requests == 0
        await scope.pass_seconds(1)
        assert (await scope.take("b", requests=1, tokens=1, least_tokens=1)).requests == 1

    run(connect, scenario, requests_per_minute=60_000, tokens_per_minute=600)


def test_what_was_not_used_goes_to_others_but_never_above_the_bucket(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        await scope.take(requests=10, tokens=10, least_tokens=1)
        await scope.take(refund_requests=6, refund_tokens=6)
        grant = await scope.take("b", requests=9, tokens=9, least_tokens=1)
        assert 6 <= grant.requests <= 7 and 6 <= grant.tokens <= 7
        await scope.take(refund_requests=500, refund_tokens=500)
        assert (await scope.take("b", requests=99, tokens=99, least_tokens=1)).requests == 10

    run(connect, scenario, requests_per_minute=600, tokens_per_minute=600)


# Concurrency


def test_places_are_shared_among_those_who_want_them(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        assert (await scope.take("a", slots=30, busy=0)).slots == 10
        assert (await scope.take("b", slots=30)).slots == 0
        assert (await scope.take("a", slots=30, busy=7)).slots == 5
        assert (await scope.take("b", slots=30)).slots == 3
        assert (await scope.take("a", slots=30, busy=5)).slots == 5
        assert (await scope.take("b", slots=30, busy=3)).slots == 5
        assert (await scope.take("a", slots=2, busy=2)).slots == 2
        assert (await scope.take("b", slots=30, busy=5)).slots == 8

    run(connect, scenario, concurrency=10)


def test_a_silent_process_loses_its_places(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(scope: Scope) -> None:
        assert (await scope.take("dead", slots=10, busy=10)).slots == 10
        grant = await scope.until_granted("b", slots=10)
        assert grant.slots == 10

    monkeypatch.setattr(exchange, "SLOTS_TTL_MS", 30)
    run(connect, scenario, concurrency=10)


@pytest.mark.parametrize("limit", [1, 2, 7])
def test_however_processes_come_and_go_the_limit_holds(connect: Connect, limit: int) -> None:
    chance = random.Random(limit)

    async def scenario(scope: Scope) -> None:
        flying, allowed = dict.fromkeys("abc", 0), dict.fromkeys("abc", 0)
        begun = dict.fromkeys("abc", 0)
        for _ in range(300):
            process = chance.choice("abc")
            flying[process] = chance.randint(0, flying[process])
            wanted = chance.choice([0, 1, 3, 20])
            grant = await scope.take(process, slots=flying[process] + wanted, busy=flying[process])
            allowed[process] = grant.slots
            starts = min(wanted, max(0, allowed[process] - flying[process]))
            flying[process] += starts
            begun[process] += starts
            assert sum(flying.values()) <= limit
        assert limit < len(begun) or min(begun.values()) > 0

    run(connect, scenario, concurrency=limit)


# Rests


def test_a_stray_429_is_no_rest_for_the_scope(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        assert (await scope.take(answers="0001000", floor=50.0)).rest == 0
        assert (await scope.take(answers="0" * 40 + "1111", floor=50.0)).rest == 0
        assert (await scope.take("b", requests=1)).requests == 1

    run(connect, scenario)


def test_few_answers_are_no_episode(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        assert (await scope.take(answers="1111", floor=50.0)).rest == 0

    run(connect, scenario)


def test_an_episode_rests_the_scope_for_all(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        await scope.take("a", answers="000111")
        grant = await scope.take("b", requests=5, answers="11", floor=50.0)
        assert grant.requests == 0 and 49 < grant.rest <= 50 and grant.wait == grant.rest
        assert (await scope.take("a", requests=5)).requests == 0
        await scope.pass_seconds(50)
        assert (await scope.take("a", requests=5)).requests == 5

    run(connect, scenario)


def test_old_answers_are_forgotten(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        await scope.take(answers="1" * 50)
        assert (await scope.take(answers="0" * 50, floor=50.0)).rest == 0

    run(connect, scenario)


def test_some_kinds_rest_the_scope_at_once_and_are_remembered(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        assert (await scope.take(answers="1", floor=7_200.0, force=True)).rest > 7_199
        assert (await scope.take("b", answers="0", floor=1.0)).rest > 7_100
        assert await scope.client.pttl(KEY) > 7_200_000

    run(connect, scenario)


def test_a_server_that_is_away_is_told_apart() -> None:
    async def main() -> None:
        async with Redis(host="127.0.0.1", port=9, retry=Retry(NoBackoff(), 0)) as client:
            with pytest.raises(LimiterAway):
                await Exchange(client, "a").take(SCOPE, NO_LIMITS, Ask(requests=1))

    asyncio.run(main())


def test_what_an_urgent_process_waits_for_is_kept_from_the_others(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        assert (await scope.take("batches", requests=5)).requests == 1
        assert (await scope.take("held", requests=1, urgent=True)).requests == 0
        await scope.pass_seconds(1)
        assert (await scope.take("batches", requests=5)).requests == 0
        assert (await scope.take("held", requests=1, urgent=True)).requests == 1
        await scope.pass_seconds(1)
        assert (await scope.take("batches", requests=5)).requests == 1

    run(connect, scenario, requests_per_minute=60)


def test_tokens_are_kept_as_well(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        assert (await scope.take("batches", requests=1, tokens=100, least_tokens=100)).tokens == 100
        assert (await scope.take("held", requests=1, tokens=60, least_tokens=60, urgent=True)).tokens == 0
        await scope.pass_seconds(1)
        assert (await scope.take("batches", requests=1, tokens=60, least_tokens=60)).tokens == 0
        assert (await scope.take("held", requests=1, tokens=60, least_tokens=60, urgent=True)).tokens == 60

    run(connect, scenario, tokens_per_minute=6000)


def test_the_only_place_goes_to_an_urgent_process_when_it_falls_free(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        assert (await scope.take("batches", requests=9, slots=9)).slots == 1
        assert (await scope.take("held", requests=1, slots=1, urgent=True)).slots == 0
        assert (await scope.take("batches", requests=9, slots=9, busy=1)).slots == 0
        assert (await scope.take("held", requests=1, slots=1, urgent=True)).slots == 0, "a call is in flight there"
        assert (await scope.take("batches", requests=9, slots=9, busy=0)).slots == 0
        assert (await scope.take("held", requests=1, slots=1, urgent=True)).slots == 1
        assert (await scope.take("held", urgent=True)).slots == 0
        assert (await scope.take("batches", requests=9, slots=9)).slots == 1

    run(connect, scenario, concurrency=1)


def test_an_urgent_process_may_take_more_than_its_share_of_places(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        assert (await scope.take("batches", requests=9, slots=64)).slots == 10
        assert (await scope.take("held", slots=8, urgent=True)).slots == 0
        assert (await scope.take("batches", slots=64, busy=10)).slots == 2
        assert (await scope.take("batches", slots=64, busy=2)).slots == 2
        assert (await scope.take("held", slots=8, urgent=True)).slots == 8

    run(connect, scenario, concurrency=10)


def test_a_silent_urgent_process_keeps_nothing(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "URGENT_MS", 1)

    async def scenario(scope: Scope) -> None:
        await scope.take("batches", requests=5)
        await scope.take("held", requests=1, urgent=True)
        await scope.pass_seconds(1)
        assert (await scope.until_granted("batches", requests=5)).requests == 1

    run(connect, scenario, requests_per_minute=60)
