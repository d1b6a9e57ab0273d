"""A provider that says nothing of its rate: from one moment at which its bucket was empty to the next one, it refilled
just what it accepted in between.
"""

from providers.rate_limits import QuotaState
from tests.worker.limiter.conftest import Connect
from tests.worker.limiter.scope import Scope, run
from worker.limiter.exchange import Grant


async def accepted(scope: Scope, seconds: int, a_second: int) -> Grant:
    grant = await scope.take()
    for _ in range(seconds):
        scope.pass_seconds(1)
        grant = await scope.answered(a_second, busy=10, accepted_tokens=100 * a_second)
    return grant


async def learned(scope: Scope, *, a_second: int = 10) -> Grant:
    """Refused, then accepted for ten seconds, then refused again."""
    await scope.refused(busy=10)
    await accepted(scope, 10, a_second)
    return await scope.refused(busy=10)


def test_one_empty_moment_teaches_nothing(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        grant = await scope.refused(busy=10)
        assert (grant.quotas["requests"].limit, grant.quotas["requests"].by) == (6_000, "config")

    run(connect, scenario, told={"requests": 6_000})


def test_between_two_empty_moments_the_rate_is_measured(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        quota = (await learned(scope)).quotas["requests"]
        assert quota.by == "refusals" and 550 <= quota.limit <= 640

    run(connect, scenario, told={"requests": 6_000})


def test_calls_in_flight_count_as_accepted(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        await scope.refused(busy=0)
        scope.pass_seconds(10)
        quota = (await scope.refused(busy=50)).quotas["requests"]
        assert 270 <= quota.limit <= 320

    run(connect, scenario, told={"requests": 6_000})


def test_refused_tokens_teach_the_rate_of_tokens(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        await scope.refused(cause="tokens")
        await accepted(scope, 10, 10)
        quotas = (await scope.refused(cause="tokens")).quotas
        assert quotas["tokens"].by == "refusals" and 55_000 <= quotas["tokens"].limit <= 64_000
        assert quotas["requests"].by == "config"

    run(connect, scenario, told={"requests": 6_000, "tokens": 1_000_000})


def test_what_was_told_is_never_passed(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        assert (await learned(scope)).quotas["requests"].limit == 60

    run(connect, scenario, told={"requests": 60})


def test_refusals_that_follow_at_once_teach_nothing_more(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        limit = (await learned(scope)).quotas["requests"].limit
        scope.pass_seconds(1.1)
        assert (await scope.refused(busy=10)).quotas["requests"].limit == limit

    run(connect, scenario, told={"requests": 6_000})


def test_a_learned_rate_is_tried_higher_while_calls_wait(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        before = (await learned(scope)).quotas["requests"].limit
        for _ in range(60):
            scope.pass_seconds(1)
            assert (await scope.take()).quotas["requests"].limit == before
        limits = []
        for _ in range(60):
            scope.pass_seconds(1)
            limits.append((await scope.take(waiting=10)).quotas["requests"].limit)
        assert limits == sorted(limits) and limits[-1] == 6_000

    run(connect, scenario, told={"requests": 6_000})


def test_a_learned_rate_that_fell_is_learned_anew(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        before = (await learned(scope, a_second=20)).quotas["requests"].limit
        await accepted(scope, 10, 12)
        assert (await scope.refused(busy=10)).quotas["requests"].limit < 0.75 * before

    run(connect, scenario, told={"requests": 6_000})


def test_one_measurement_takes_no_more_than_half(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        before = (await learned(scope, a_second=20)).quotas["requests"].limit
        scope.pass_seconds(10)
        assert (await scope.refused(busy=10)).quotas["requests"].limit >= 0.49 * before

    run(connect, scenario, told={"requests": 6_000})


def test_the_provider_s_own_words_win_over_what_was_measured(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:

        await learned(scope)
        grant = await scope.take(seen={"requests": QuotaState(3_000, 1_500, None)})
        assert (grant.quotas["requests"].limit, grant.quotas["requests"].by) == (3_000, "headers")
        await learned(scope)
        assert (await scope.take()).quotas["requests"].limit == 3_000

    run(connect, scenario, told={"requests": 6_000})


def test_of_a_scope_of_which_nothing_is_known_first_the_window_then_the_rate_is_learned(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        assert "requests" not in (await scope.refused(busy=10)).quotas
        await accepted(scope, 3, 10)
        assert "requests" not in (await scope.refused(busy=9)).quotas
        await accepted(scope, 3, 10)
        quota = (await scope.refused(busy=8)).quotas["requests"]
        assert quota.by == "refusals" and 500 <= quota.limit <= 640

    run(connect, scenario)


def test_refused_concurrency_teaches_no_rate(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        for _ in range(4):
            grant = await scope.refused(busy=10, cause="concurrency")
            assert "requests" not in grant.quotas
            await accepted(scope, 5, 10)

    run(connect, scenario)
