"""How many calls at a time a scope bears: found by growth and by episodes of 429s, kept, and tried again later."""

from itertools import pairwise

from tests.worker.limiter.conftest import Connect
from tests.worker.limiter.scope import Scope, run

FIRST = 16


async def grown(scope: Scope, *, per_second: float = 1e9, to: float) -> float:
    """Answers as fast as the provider gives them, until the window has this size."""
    window = FIRST * 1.0
    for _ in range(100):
        busy = int(window)
        scope.pass_seconds(busy / min(per_second, busy))
        window = (await scope.answered(busy, busy=busy, waiting=1000)).window
        if window >= to:
            break
    return window


async def ceiling_found(scope: Scope, busy: int) -> None:
    await grown(scope, to=64)
    scope.pass_seconds(1)
    grant = await scope.refused(8, busy=busy, cause="concurrency")
    assert grant.window == busy
    scope.pass_seconds(2)
    await scope.answered(busy, busy=busy, waiting=500)


def test_an_unknown_scope_begins_with_few_calls(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        grant = await scope.take(waiting=1_000)
        assert grant.slots == grant.window == FIRST

    run(connect, scenario)


def test_the_window_multiplies_while_all_goes_well(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        windows = [(await scope.take(waiting=500)).window]
        for _ in range(4):
            scope.pass_seconds(1)
            windows.append((await scope.answered(int(windows[-1]), busy=int(windows[-1]), waiting=500)).window)
        assert windows[0] == FIRST and all(1.5 <= after / before <= 4 for before, after in pairwise(windows))

    run(connect, scenario)


def test_a_window_that_is_not_used_does_not_grow(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        for _ in range(50):
            scope.pass_seconds(1)
            assert (await scope.answered(1, busy=1)).window == FIRST

    run(connect, scenario)


def test_growth_slows_down_where_more_calls_bring_no_more_answers(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        assert await grown(scope, per_second=30, to=5_000) < 1_000

    run(connect, scenario)


def test_failures_of_the_provider_pause_growth(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        assert (await scope.answered(FIRST, busy=FIRST, broken=FIRST // 3)).window == FIRST
        scope.pass_seconds(4)
        assert (await scope.answered(FIRST, busy=FIRST)).window == FIRST
        scope.pass_seconds(2)
        assert (await scope.answered(FIRST, busy=FIRST)).window >= 1.5 * FIRST

    run(connect, scenario)


def test_what_a_known_rate_needs_is_open_at_once(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        grant = await scope.answered(1, seconds=10.0, waiting=10_000)
        assert 1_000 <= grant.window <= 2_000, "100 a second for 10 seconds each"

    run(connect, scenario, told={"requests": 6_000})


def test_the_configured_concurrency_is_never_passed(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        for _ in range(6):
            scope.pass_seconds(1)
            assert (await scope.answered(20, busy=20, waiting=100)).window == 20

    run(connect, scenario, concurrency=20)


def test_refused_concurrency_is_found_and_kept(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        await ceiling_found(scope, 40)
        for _ in range(5):
            scope.pass_seconds(1)
            assert (await scope.answered(40, busy=40, waiting=500)).window == 40

    run(connect, scenario)


def test_a_ceiling_is_tried_again_after_a_while_carefully(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        await ceiling_found(scope, 40)
        scope.pass_seconds(30)
        assert 41 <= (await scope.answered(40, busy=40, waiting=500)).window <= 43

    run(connect, scenario)


def test_one_refusal_above_the_ceiling_is_enough_and_makes_the_next_try_later(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        await ceiling_found(scope, 40)
        scope.pass_seconds(30)
        await scope.answered(40, busy=40, waiting=500)
        scope.pass_seconds(1)
        assert (await scope.refused(1, busy=42, cause="concurrency", waiting=500)).window == 40
        scope.pass_seconds(15)
        assert (await scope.answered(40, busy=40, waiting=500)).window == 40
        scope.pass_seconds(30)
        assert (await scope.answered(40, busy=40, waiting=500)).window > 40

    run(connect, scenario)


def test_a_scope_that_tells_nothing_is_cut_to_little_and_grows_back_to_what_it_bore(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        await grown(scope, to=128)
        scope.pass_seconds(1)
        assert (await scope.refused(busy=100, waiting=500)).window < FIRST
        scope.pass_seconds(3)
        for _ in range(10):
            await scope.answered(100, busy=100, waiting=500)
            scope.pass_seconds(0.2)
        assert (await scope.take(waiting=500)).window == 100

    run(connect, scenario)


def test_one_episode_cuts_once(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        await grown(scope, to=128)
        scope.pass_seconds(1)
        window = (await scope.refused(busy=100)).window
        scope.pass_seconds(0.1)
        assert (await scope.refused(busy=60)).window == window

    run(connect, scenario)
