"""How processes share the calls that a scope bears at a time, and when a scope rests."""

import random

import pytest

from tests.worker.limiter.conftest import Connect
from tests.worker.limiter.scope import KEY, Scope, granted, run
from worker.limiter.exchange import SILENT_MS


def test_places_are_shared_among_those_who_want_them(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        assert (await scope.take("a", waiting=30)).slots == 10
        assert (await scope.take("b", waiting=30)).slots == 0
        assert (await scope.take("a", waiting=23, busy=7)).slots == 5
        assert (await scope.take("b", waiting=30)).slots == 3
        assert (await scope.take("a", waiting=25, busy=5)).slots == 5
        assert (await scope.take("b", waiting=27, busy=3)).slots == 5
        assert (await scope.take("a", busy=2)).slots == 2
        assert (await scope.take("b", waiting=25, busy=5)).slots == 8

    run(connect, scenario, concurrency=10)


def test_a_silent_process_loses_its_places(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        assert (await scope.take("dead", busy=10)).slots == 10
        scope.pass_seconds(SILENT_MS / 1000 - 1)
        assert (await scope.take("b", waiting=10)).slots == 0
        scope.pass_seconds(1.1)
        assert (await scope.take("b", waiting=10)).slots == 10

    run(connect, scenario, concurrency=10)


@pytest.mark.parametrize("limit", [1, 2, 7])
def test_however_processes_come_and_go_the_limit_holds(connect: Connect, limit: int) -> None:
    chance = random.Random(limit)

    async def scenario(scope: Scope) -> None:
        flying, begun = dict.fromkeys("abc", 0), dict.fromkeys("abc", 0)
        for _ in range(300):
            process = chance.choice("abc")
            flying[process] = chance.randint(0, flying[process])
            wanted = chance.choice([0, 1, 3, 20])
            grant = await scope.take(process, waiting=wanted, busy=flying[process])
            starts = min(wanted, max(0, grant.slots - flying[process]))
            flying[process] += starts
            begun[process] += starts
            scope.pass_seconds(0.05)
            assert sum(flying.values()) <= limit
        assert limit < len(begun) or min(begun.values()) > 0

    run(connect, scenario, concurrency=limit)


def test_the_only_place_goes_to_an_urgent_process_when_it_falls_free(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        urgent = {"requests": 1}
        assert (await scope.take("batches", waiting=9)).slots == 1
        assert (await scope.take("held", waiting=1, urgent=urgent)).slots == 0
        await scope.take("batches", waiting=8, busy=1)
        assert (await scope.take("held", waiting=1, urgent=urgent)).slots == 0, "a call is in flight there"
        assert (await scope.take("batches", waiting=9)).slots == 0
        assert (await scope.take("held", waiting=1, urgent=urgent)).slots == 1
        assert (await scope.take("held")).slots == 0
        assert (await scope.take("batches", waiting=9)).slots == 1

    run(connect, scenario, concurrency=1)


def test_an_urgent_process_may_take_more_than_its_share_of_places(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        urgent = {"requests": 8}
        assert (await scope.take("batches", waiting=64)).slots == 10
        assert (await scope.take("held", waiting=8, urgent=urgent)).slots == 0
        assert (await scope.take("batches", waiting=54, busy=10)).slots <= 2
        assert (await scope.take("batches", waiting=62, busy=2)).slots <= 2
        assert (await scope.take("held", waiting=8, urgent=urgent)).slots == 8

    run(connect, scenario, concurrency=10)


# Rests


def test_a_stray_429_is_no_rest_for_the_scope(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        assert (await scope.take(answers="0001000", refused=1, sent=7, floor=50.0)).rest == 0
        assert (await scope.take(answers="0" * 40 + "1111", refused=4, sent=44, floor=50.0)).rest == 0
        assert (await scope.take("b", waiting=1)).slots == 1

    run(connect, scenario)


def test_few_answers_are_no_episode(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        assert (await scope.take(answers="1111", refused=4, sent=4, floor=50.0)).rest == 0

    run(connect, scenario)


def test_an_episode_rests_the_scope_for_all(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        await scope.take("a", answers="000111", refused=3, sent=6)
        grant = await scope.take("b", requests=5, answers="11", refused=2, sent=2, floor=50.0)
        assert granted(grant) == 0 and grant.wait == grant.rest == 50
        assert granted(await scope.take("a", requests=5)) == 0
        scope.pass_seconds(50)
        assert granted(await scope.take("a", requests=5)) == 5

    run(connect, scenario, told={"requests": 60_000})


def test_old_answers_are_forgotten(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        await scope.take(answers="1", refused=1 * 50, sent=50)
        assert (await scope.take(answers="0" * 50, floor=50.0)).rest == 0

    run(connect, scenario)


def test_refusals_are_many_against_the_calls_that_were_sent_meanwhile(connect: Connect) -> None:
    """Good answers take longer than refusals: those that came so far are none to compare with."""

    async def scenario(scope: Scope) -> None:
        await scope.take(answers="0" * 50, accepted=50)
        assert (await scope.take("b", answers="11111", refused=5, sent=100, floor=9.0)).rest == 0
        assert (await scope.take("b", answers="11111", refused=5, sent=10, floor=9.0)).rest == 9

    run(connect, scenario)


def test_some_kinds_rest_the_scope_at_once_and_are_remembered(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        assert (await scope.take(answers="1", refused=1, floor=7_200.0, force=True)).rest == 7_200
        assert (await scope.take("b", answers="0", floor=1.0)).rest == 7_200
        assert await scope.client.pttl(KEY) > 7_200_000

    run(connect, scenario)


def test_held_calls_go_before_the_credit_of_a_new_batch(connect: Connect) -> None:
    async def scenario(scope: Scope) -> None:
        wanted = {"requests": 50.0}
        assert (await scope.take("batch", waiting=50, urgency=1, urgent=wanted)).slots == 1
        assert (await scope.take("held", waiting=1, urgent={"requests": 1})).slots == 0
        assert (await scope.take("batch", waiting=50, urgency=1, urgent=wanted)).slots == 0
        assert (await scope.take("held", waiting=1, urgent={"requests": 1})).slots == 1

    run(connect, scenario, concurrency=1)
