"""What providers' own words do to a scope's limits and to what may be taken now."""

import pytest

from providers.rate_limits import QuotaState
from tests.worker.limiter.conftest import Connect
from tests.worker.limiter.scope import Scope, granted, run
from worker.limiter.exchange import Grant


def told(limit: float, remaining: float, reset: float | None = None, quota: str = "requests") -> dict[str, QuotaState]:
    return {quota: QuotaState(limit, remaining, reset)}


def level(grant: Grant, quota: str = "requests") -> float:
    return grant.quotas[quota].level


def test_a_limit_that_was_told_too_high_is_corrected_for_all(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        grant = await scope.take(seen=told(600, 600))
        assert (grant.quotas["requests"].limit, grant.quotas["requests"].by) == (600, "headers")
        scope.pass_seconds(60)
        other = await scope.take("b", requests=1_000)
        assert other.quotas["requests"].limit == 600 and granted(other) <= 10

    run(connect, scenario, told={"requests": 6_000})


def test_a_limit_that_was_told_lower_wins(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        assert (await scope.take(seen=told(600, 600))).quotas["requests"].limit == 60

    run(connect, scenario, told={"requests": 60})


def test_a_limit_that_nobody_told_is_learned(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        assert "input_tokens" not in (await scope.take(requests=1)).quotas
        await scope.take(seen=told(60_000, 60_000, quota="input_tokens"))
        assert (await scope.take("b", requests=1)).quotas["input_tokens"].limit == 60_000

    run(connect, scenario)


def test_the_share_is_taken_off_a_learned_limit(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        assert (await scope.take(seen=told(600, 600))).quotas["requests"].limit == 300

    run(connect, scenario, share=0.5)


def test_a_bucket_that_holds_a_minute_is_used_whole(connect: Connect) -> None:
    """Empty in the time that a whole limit takes to refill: its capacity is the limit, and it is full now."""

    async def scenario(scope: Scope) -> None:
        grant = await scope.take(requests=1_000, seen=told(600, 600, 0.0))
        assert 590 <= granted(grant) <= 600

    run(connect, scenario)


def test_a_small_bucket_is_told_by_its_reset(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        await scope.take(seen=told(600, 10, 1.0))
        scope.pass_seconds(60)
        assert 10 <= granted(await scope.take(requests=1_000)) <= 20

    run(connect, scenario)


def test_what_the_provider_has_not_cannot_be_taken(connect: Connect) -> None:
    """Somebody else uses the same key."""

    async def scenario(scope: Scope) -> None:
        await scope.take()
        grant = await scope.take(requests=5, seen=told(600, 0, 60.0))
        assert granted(grant) == 0 and grant.wait > 0 and level(grant) <= 0

    run(connect, scenario, told={"requests": 600})


def test_since_the_call_was_sent_the_provider_s_bucket_has_refilled(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        await scope.take(seen=told(600, 600, 0.0))
        scope.pass_seconds(4)
        fresh = level(await scope.take("b", seen=told(600, 100, 50.0), age=0))
        old = level(await scope.take("b", seen=told(600, 100 - 40, 54.0), age=4))
        assert old == pytest.approx(fresh, abs=1)

    run(connect, scenario)


def test_what_was_taken_since_the_call_was_sent_is_taken_off(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        await scope.take(seen=told(600, 600, 0.0))
        scope.pass_seconds(1)
        await scope.take(requests=50)
        scope.pass_seconds(1)
        assert granted(await scope.take(requests=100)) == 100
        scope.pass_seconds(1)
        before_both = level(await scope.take(seen=told(600, 200, 40.0), age=2.5))
        assert before_both == pytest.approx(200 + 25 - 150, abs=5)

    run(connect, scenario)


def test_what_was_taken_before_the_call_was_sent_is_in_the_provider_s_count(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        await scope.take(seen=told(600, 600, 0.0))
        scope.pass_seconds(1)
        await scope.take(requests=100)
        scope.pass_seconds(2)
        assert level(await scope.take(seen=told(600, 200, 40.0), age=1)) == pytest.approx(200 + 10, abs=5)

    run(connect, scenario)


def test_what_others_and_oneself_hold_unspent_is_taken_off(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        await scope.take(seen=told(600, 600, 0.0))
        scope.pass_seconds(1)
        await scope.take("b", requests=60)
        scope.pass_seconds(1)
        await scope.take("b", unspent={"requests": 60})
        scope.pass_seconds(1)
        grant = await scope.take("a", seen=told(600, 300, 30.0), unspent={"requests": 40})
        assert level(grant) == pytest.approx(300 - 60 - 40, abs=5)

    run(connect, scenario)


def test_the_first_word_is_believed_and_later_good_news_by_half(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        first = level(await scope.take(seen=told(600, 400, 20.0)))
        assert first == pytest.approx(400, abs=5)
        scope.pass_seconds(1)
        assert level(await scope.take(seen=told(600, 500, 10.0))) == pytest.approx((first + 10 + 500) / 2, abs=5)

    run(connect, scenario)


def test_old_good_news_is_none(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        await scope.take(seen=told(600, 100, 50.0))
        scope.pass_seconds(10)
        assert level(await scope.take(seen=told(600, 500, 10.0), age=9)) == pytest.approx(200, abs=5)

    run(connect, scenario)


def test_with_a_share_good_news_beyond_it_is_for_the_others(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        await scope.take(requests=100, seen=told(600, 600, 0.0))
        scope.pass_seconds(1)
        before = level(await scope.take())
        assert level(await scope.take(seen=told(600, 600, 0.0))) == before

    run(connect, scenario, share=0.5)


def test_a_limit_that_halves_counts_from_then_on(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        await scope.take(requests=600, seen=told(600, 600, 0.0))
        grant = await scope.take(seen=told(300, 0, 60.0))
        assert grant.quotas["requests"].limit == 300
        scope.pass_seconds(20)
        assert 80 <= granted(await scope.take(requests=600)) <= 100

    run(connect, scenario, told={"requests": 600})


def test_what_is_known_counts_for_a_server_that_has_forgotten(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        await scope.client.flushall()
        grant = await scope.take(requests=100)
        assert grant.quotas["requests"].limit == 600 and granted(grant) <= 10

    run(connect, scenario, known={"requests": 600})


def test_what_is_known_gives_way_to_every_other_word(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        assert (await scope.take()).quotas["requests"].limit == 600
        assert (await scope.take(seen=told(1_200, 1_200))).quotas["requests"].limit == 1_200

    run(connect, scenario, known={"requests": 600})


def test_after_the_server_has_forgotten_no_more_is_taken_than_is_left(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        await scope.take(requests=600, seen=told(600, 600, 0.0))
        await scope.client.flushall()
        assert granted(await scope.take(requests=600)) <= 10
        scope.pass_seconds(1)
        assert granted(await scope.take(requests=600, seen=told(600, 0, 60.0), age=0.5)) <= 10

    run(connect, scenario, told={"requests": 600})


@pytest.mark.parametrize("quota", ["requests_day", "tokens_day"])
def test_a_quota_of_the_day_is_learned_as_well(connect: Connect, quota: str) -> None:
    async def scenario(scope: Scope) -> None:
        grant = await scope.take(seen=told(1_000, 400, quota=quota))
        assert (grant.quotas[quota].limit, grant.quotas[quota].by) == (1_000, "headers")
        empty = await scope.take(seen=told(1_000, 0, quota=quota))
        assert level(empty, quota) <= 0

    run(connect, scenario)
