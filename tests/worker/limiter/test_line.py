import asyncio
from collections.abc import Awaitable, Callable

import pytest

from worker.limiter.cost import Cost
from worker.limiter.line import CREDIT_SECONDS, MOST_SHARES, Admission, Line, Standing, Waiter

SMALL = Cost(5, 5, 100)
SIXTY_A_MINUTE = {"requests": 1.0}
OLD = 10_000
"""Answered calls of a batch that has long used up its credit."""


def run(scenario: Callable[[Line], Awaitable[None]], per_second: dict[str, float] | None = None) -> None:
    async def main() -> None:
        line = Line()
        line.limits(SIXTY_A_MINUTE if per_second is None else per_second)
        await scenario(line)

    asyncio.run(main())


def joined(line: Line, batch: int, *, calls: int = 1, cost: Cost = SMALL, **standing: int) -> Waiter:
    held = bool(standing.pop("held", False))
    return line.join([cost] * calls, Standing(batch=batch, held=held, **{"answered": OLD} | standing))


def turns(line: Line, count: int, *, again: dict[int, Cost]) -> list[int]:
    """Who is served, one call at a time; each comes again at once."""
    served = []
    for _ in range(count):
        turn = line.next()
        assert turn is not None
        served.append(turn.standing.batch)
        line.serve(turn, 1)
        line.join([again[turn.standing.batch]], turn.standing)
    return served


def test_nobody_waits_in_an_empty_line() -> None:
    async def scenario(line: Line) -> None:
        assert not line and line.next() is None and line.costs(9) == [] and line.urgent() == {}

    run(scenario)


def test_one_batch_is_served_in_the_order_in_which_it_came() -> None:
    async def scenario(line: Line) -> None:
        waiters = [joined(line, 1) for _ in range(3)]
        for waiter in waiters:
            assert line.next() is waiter
            line.serve(waiter, 1)
            assert await waiter.answer == Admission(1)

    run(scenario)


def test_batches_get_the_same_time_of_the_quota_whatever_their_calls_cost() -> None:
    async def scenario(line: Line) -> None:
        costs = {1: Cost(100, 0, 1), 2: Cost(300, 0, 1)}
        for batch, cost in costs.items():
            joined(line, batch, cost=cost)
        served = turns(line, 400, again=costs)
        assert served.count(1) == pytest.approx(300, abs=3)

    run(scenario, {"requests": 1_000.0, "tokens": 100.0})


def test_the_scarcest_quota_of_a_call_is_what_it_weighs() -> None:
    """One is short of requests, the other of output tokens: half a second of each."""

    async def scenario(line: Line) -> None:
        costs = {1: Cost(0, 0, 1), 2: Cost(0, 500, 1)}
        for batch, cost in costs.items():
            joined(line, batch, cost=cost)
        assert turns(line, 100, again=costs).count(1) == 50

    run(scenario, {"requests": 2.0, "output_tokens": 1_000.0})


def test_without_quotas_calls_are_shared_by_number() -> None:
    async def scenario(line: Line) -> None:
        costs = {1: Cost(9_000, 0, 1), 2: SMALL}
        for batch, cost in costs.items():
            joined(line, batch, cost=cost)
        assert turns(line, 100, again=costs).count(1) == 50

    run(scenario, {})


def test_a_larger_turn_counts_for_more() -> None:
    async def scenario(line: Line) -> None:
        big = joined(line, 1, calls=30)
        line.serve(big, 30)
        joined(line, 1)
        joined(line, 2)
        served = turns(line, 30, again={1: SMALL, 2: SMALL})
        assert served.count(2) >= 29

    run(scenario)


def test_a_new_batch_goes_first_for_about_a_minute_of_quota() -> None:
    async def scenario(line: Line) -> None:
        joined(line, 1)
        turns(line, 100, again={1: SMALL})
        joined(line, 2, answered=0)
        served = turns(line, 200, again={1: SMALL, 2: SMALL})
        assert served[: int(CREDIT_SECONDS)] == [2] * int(CREDIT_SECONDS)
        assert 1 in served[int(CREDIT_SECONDS) :]

    run(scenario)


def test_the_credit_of_a_batch_that_comes_again_is_not_renewed() -> None:
    async def scenario(line: Line) -> None:
        joined(line, 1)
        joined(line, 2, answered=59)
        served = turns(line, 20, again={1: SMALL, 2: SMALL})
        assert served.count(1) >= 8

    run(scenario)


def test_who_comes_late_is_not_ahead_of_all_by_what_it_did_not_use() -> None:
    async def scenario(line: Line) -> None:
        joined(line, 1)
        turns(line, 500, again={1: SMALL})
        joined(line, 2)
        assert turns(line, 20, again={1: SMALL, 2: SMALL}).count(1) >= 9

    run(scenario)


def test_who_was_away_has_saved_nothing() -> None:
    async def scenario(line: Line) -> None:
        joined(line, 1)
        first = joined(line, 2)
        line.serve(first, 1)
        turns(line, 500, again={1: SMALL})
        joined(line, 2)
        assert turns(line, 20, again={1: SMALL, 2: SMALL}).count(1) >= 9

    run(scenario)


def test_held_calls_go_before_priority_and_that_before_credit() -> None:
    async def scenario(line: Line) -> None:
        plain, new = joined(line, 1), joined(line, 2, answered=0)
        first, held = joined(line, 3, priority=5), joined(line, 4, held=1)
        served = []
        while (turn := line.next()) is not None:
            served.append(turn)
            line.serve(turn, 1)
        assert served == [held, first, new, plain]

    run(scenario)


def test_a_lower_priority_waits_while_the_higher_one_wants() -> None:
    async def scenario(line: Line) -> None:
        joined(line, 1, priority=-1, answered=0)
        joined(line, 2)
        assert turns(line, 100, again={1: SMALL, 2: SMALL}) == [2] * 100

    run(scenario)


def test_a_changed_priority_counts_at_once() -> None:
    async def scenario(line: Line) -> None:
        joined(line, 1, priority=3)
        second = joined(line, 2, priority=3)
        line.serve(joined(line, 1, priority=0), 1)
        assert line.next() is second

    run(scenario)


def test_whoever_cancelled_has_no_turn() -> None:
    async def scenario(line: Line) -> None:
        gone, next_one = joined(line, 1), joined(line, 1)
        gone.answer.cancel()
        assert line.next() is next_one
        line.leave(next_one)
        line.leave(next_one)
        assert not line

    run(scenario)


def test_who_is_sent_away_is_told_the_wait() -> None:
    async def scenario(line: Line) -> None:
        waiters = [joined(line, batch) for batch in (1, 1, 2)]
        cancelled = joined(line, 3)
        cancelled.answer.cancel()
        line.send_away(30.0)
        assert [await waiter.answer for waiter in waiters] == [Admission(0, 30.0)] * 3
        assert not line

    run(scenario)


def test_what_waits_is_told_in_the_order_of_turns_and_not_without_end() -> None:
    async def scenario(line: Line) -> None:
        cheap, dear = Cost(1, 0, 1), Cost(9, 0, 1)
        joined(line, 1, calls=5, cost=cheap)
        joined(line, 2, calls=2, cost=dear, held=1)
        assert line.costs(100) == [dear] * 2 + [cheap] * 5
        assert line.costs(3) == [dear] * 2 + [cheap]

    run(scenario)


def test_held_calls_and_those_of_new_batches_are_urgent() -> None:
    async def scenario(line: Line) -> None:
        joined(line, 1, calls=5)
        assert (line.urgency, line.urgent()) == (0, {})
        joined(line, 3, answered=0)
        assert (line.urgency, line.urgent()) == (1, {"requests": 1, "tokens": 10})
        joined(line, 2, calls=2, held=1)
        assert line.has_held and (line.urgency, line.urgent()) == (2, {"requests": 2, "tokens": 20})

    run(scenario, {"requests": 1.0, "tokens": 100.0})


def test_the_gone_are_forgotten_and_the_waiting_are_not() -> None:
    async def scenario(line: Line) -> None:
        stays = joined(line, 0)
        for batch in range(1, 3 * MOST_SHARES):
            line.leave(joined(line, batch))
        assert len(line._shares) <= MOST_SHARES + 1
        assert line.next() is stays

    run(scenario)
