"""What the script grants: buckets that refill, debts, refunds, and what is kept for those in a hurry."""

import asyncio
import random

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from tests.worker.limiter.conftest import Connect
from tests.worker.limiter.scope import KEY, SCOPE, Scope, granted, run
from worker.catalog import ScopeLimits
from worker.limiter.exchange import Ask, Exchange, LimiterAway

TEN_A_SECOND = {"requests": 600.0}


def test_without_limits_no_quota_holds_anything_back(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        grant = await scope.take(requests=8)
        assert (grant.quotas, grant.slots, grant.wait, grant.rest) == ({}, 8, 0.0, 0.0)

    run(connect, scenario)


def test_a_missing_bucket_starts_with_one_second_of_quota_less_the_margin(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        first = await scope.take(requests=100)
        assert 7 <= granted(first) <= 10 and first.wait == 0
        assert (first.quotas["requests"].limit, first.quotas["requests"].by) == (600, "config")
        empty = await scope.take("b", requests=100)
        assert granted(empty) == 0 and 0 < empty.wait <= 0.1

    run(connect, scenario, told=TEN_A_SECOND)


def test_less_than_one_request_a_second_still_begins_with_one(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        assert granted(await scope.take(requests=5)) == 1
        waiting = await scope.take("b", requests=5)
        assert granted(waiting) == 0 and waiting.wait == 60
        scope.pass_seconds(waiting.wait)
        assert granted(await scope.take("b", requests=5)) == 1

    run(connect, scenario, told={"requests": 1})


def test_time_refills_up_to_one_second_and_no_more(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        first = granted(await scope.take(requests=10))
        scope.pass_seconds(0.5)
        assert 5 <= granted(await scope.take(requests=100)) <= 6
        scope.pass_seconds(3600)
        assert granted(await scope.take(requests=100)) == first <= 10

    run(connect, scenario, told=TEN_A_SECOND)


def test_a_quota_of_the_day_refills_by_the_day(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        grant = await scope.take(requests=1)
        assert grant.quotas["requests_day"].limit == 86_400
        await scope.take(refund={"requests_day": -100})
        scope.pass_seconds(50)
        assert (await scope.take()).quotas["requests_day"].level == pytest.approx(-49)

    run(connect, scenario, told={"requests_day": 86_400})


def test_two_processes_together_get_the_rate_and_never_more(connect: Connect) -> None:
    chance = random.Random(5)

    async def scenario(scope: Scope) -> None:
        total, began = 0.0, scope.now
        for _ in range(300):
            total += granted(await scope.take(chance.choice("ab"), requests=7, tokens=(70, 10)))
            scope.pass_seconds(chance.uniform(0, 0.02))
            most = 100 + 100 * (scope.now - began)
            assert total <= most
        assert total >= 100 * (scope.now - began)

    run(connect, scenario, told={"requests": 6_000, "tokens": 60_000})


def test_the_share_is_taken_off_every_limit(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        grant = await scope.take(requests=100)
        assert grant.quotas["requests"].limit == 300 and granted(grant) <= 5

    run(connect, scenario, told=TEN_A_SECOND, share=0.5)


def test_without_tokens_no_request_is_granted(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        first = await scope.take(requests=2, tokens=(20, 10))
        assert (granted(first), granted(first, "tokens")) == (2, 10)
        second = await scope.take(requests=2, tokens=(20, 10))
        assert (granted(second), granted(second, "tokens")) == (0, 0) and 0.9 < second.wait <= 1.0
        scope.pass_seconds(second.wait)
        assert granted(await scope.take(requests=2, tokens=(20, 10))) == 2

    run(connect, scenario, told={"requests": 60_000, "tokens": 600})


def test_tokens_are_granted_alone_for_requests_granted_before(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        assert granted(await scope.take(waiting=1, tokens=(30, 10)), "tokens") == 10
        grant = await scope.take(waiting=1, tokens=(5, 5))
        assert granted(grant, "tokens") == 0 and grant.wait > 0.5

    run(connect, scenario, told={"requests": 600, "tokens": 600})


def test_a_part_is_granted_where_the_whole_is_not_there(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        grant = await scope.take(requests=5, tokens=(500, 4))
        assert granted(grant) == 5 and 4 <= granted(grant, "tokens") <= 10

    run(connect, scenario, told={"requests": 60_000, "tokens": 600})


def test_a_call_larger_than_the_bucket_passes_when_it_is_full_and_leaves_a_debt(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        grant = await scope.take(requests=1, tokens=(5_000, 5_000))
        assert (granted(grant), granted(grant, "tokens")) == (1, 5_000)
        debt = await scope.take("b", requests=1, tokens=(1, 1))
        assert granted(debt) == 0 and 498 < debt.wait <= 500
        assert await scope.client.pttl(KEY) > 1000 * debt.wait
        scope.pass_seconds(debt.wait - 1)
        assert granted(await scope.take("b", requests=1, tokens=(1, 1))) == 0
        scope.pass_seconds(1)
        assert granted(await scope.take("b", requests=1, tokens=(1, 1))) == 1

    run(connect, scenario, told={"requests": 60_000, "tokens": 600})


def test_what_was_not_used_goes_to_others(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        await scope.take(requests=10, tokens=(10, 1))
        await scope.take(refund={"requests": 6, "tokens": 6})
        grant = await scope.take("b", requests=9, tokens=(9, 1))
        assert granted(grant) == granted(grant, "tokens") == 6

    run(connect, scenario, told={"requests": 600, "tokens": 600})


def test_a_refund_does_not_fill_the_bucket_above_its_edge_for_long(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        await scope.take(refund={"requests": 500})
        scope.pass_seconds(0.01)
        assert granted(await scope.take("b", requests=99)) <= 10

    run(connect, scenario, told=TEN_A_SECOND)


def test_what_was_used_and_not_taken_is_a_debt(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        await scope.take(refund={"requests": -107})
        grant = await scope.take("b", requests=1)
        assert granted(grant) == 0 and 9 < grant.wait <= 11

    run(connect, scenario, told=TEN_A_SECOND)


def test_what_an_urgent_process_waits_for_is_kept_from_the_others(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        assert granted(await scope.take("batches", requests=5)) == 1
        assert granted(await scope.take("held", requests=1, urgent={"requests": 1})) == 0
        scope.pass_seconds(1)
        assert granted(await scope.take("batches", requests=5)) == 0
        assert granted(await scope.take("held", requests=1, urgent={"requests": 1})) == 1
        await scope.take("held")
        scope.pass_seconds(1)
        assert granted(await scope.take("batches", requests=5)) == 1

    run(connect, scenario, told={"requests": 60})


def test_tokens_are_kept_as_well(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        urgent = {"requests": 1, "tokens": 60}
        assert granted(await scope.take("batches", requests=1, tokens=(100, 100)), "tokens") == 100
        assert granted(await scope.take("held", requests=1, tokens=(60, 60), urgent=urgent), "tokens") == 0
        scope.pass_seconds(1)
        assert granted(await scope.take("batches", requests=1, tokens=(60, 60)), "tokens") == 0
        assert granted(await scope.take("held", requests=1, tokens=(60, 60), urgent=urgent), "tokens") == 60

    run(connect, scenario, told={"tokens": 6_000})


def test_a_silent_urgent_process_keeps_nothing(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        await scope.take("batches", requests=5)
        await scope.take("held", requests=1, urgent={"requests": 1})
        scope.pass_seconds(3)
        assert granted(await scope.take("batches", requests=5)) == 1

    run(connect, scenario, told={"requests": 60})


def test_a_server_that_is_away_is_told_apart() -> None:
    async def main() -> None:
        async with Redis(host="127.0.0.1", port=9, retry=Retry(NoBackoff(), 0)) as client:
            with pytest.raises(LimiterAway):
                await Exchange(client, "a").take(SCOPE, ScopeLimits(), Ask(waiting=1))

    asyncio.run(main())


def test_the_server_s_own_clock_is_used(valkey: str) -> None:
    """All other tests replace it."""

    async def main() -> None:
        async with Redis.from_url(valkey) as client:
            grant = await Exchange(client, "a").take(SCOPE, ScopeLimits(), Ask(waiting=1, floor=50.0, force=True))
            assert 49 < grant.rest <= 50
            seconds, _ = await client.time()
            floor = float(await client.hget(KEY, "floor") or 0) / 1000
            assert seconds + 49 <= floor <= seconds + 51

    asyncio.run(main())
