import math
from typing import Any

import pytest

from worker.control import sharing
from worker.control.sharing import Demand


def demand(batch: int = 1, route: str = "a", *scopes: str, **facts: Any) -> Demand:
    values: dict[str, Any] = {"priority": 0, "lines": 10.0, "input_tokens": 30.0, "output_tokens": 70.0}
    return Demand(batch=batch, route=route, scopes=frozenset(scopes or ("s",)), **{**values, **facts})


def test_demands_of_one_scope_wait_for_each_other() -> None:
    first, second, other = demand(1), demand(2), demand(3, "b", "t")
    assert sharing.pools([first, other, second]) == [[other], [first, second]]


def test_an_alias_joins_the_scopes_that_it_uses() -> None:
    members = [demand(1, "a", "s"), demand(2, "b", "t"), demand(3, "alias", "s", "t"), demand(4, "c", "u")]
    assert sorted(len(pool) for pool in sharing.pools(members)) == [1, 3]


@pytest.mark.parametrize(
    ("per_second", "seconds"),
    [
        ({"requests": 5.0}, 0.2),
        ({"requests": 5.0, "tokens": 1_000.0}, 0.2),
        ({"requests": 5.0, "tokens": 100.0}, 1.0),
        ({"input_tokens": 10.0, "output_tokens": 140.0}, 3.0),
        ({}, 0.0),
    ],
)
def test_a_line_takes_of_the_scarcest_quota(per_second: dict[str, float], seconds: float) -> None:
    assert demand().seconds(per_second) == pytest.approx(seconds)


def test_scopes_grant_together_what_all_of_them_tell() -> None:
    assert sharing.quota([{"requests": 1.0, "tokens": 9.0}, {"requests": 2.0}]) == {"requests": 3.0}
    assert sharing.quota([{"requests": 1.0}, {}]) == {}
    assert sharing.quota([]) == {}


def test_the_speed_is_what_was_measured_but_no_more_than_the_quota() -> None:
    assert sharing.speed([demand()], {}, {}) is None
    assert sharing.speed([demand()], {"other": 1.0}, {}) is None
    assert sharing.speed([demand()], {"a": 0.0}, {}) is None
    assert sharing.speed([demand()], {"a": 4.0}, {}) == 4.0
    assert sharing.speed([demand()], {"a": 4.0}, {"requests": 10.0}) == pytest.approx(0.4)
    assert sharing.speed([demand()], {"a": 4.0}, {"requests": 2.0}) == 1.0
    assert sharing.speed([demand(1), demand(2, "b")], {"a": 4.0, "b": 1.0}, {"requests": 10.0}) == pytest.approx(0.5)


def test_work_is_counted_in_lines_where_no_quota_is_known() -> None:
    assert sharing.amounts([demand(1), demand(1, "b"), demand(2, priority=3)], {}) == {1: (0, 20.0), 2: (3, 10.0)}
    assert sharing.amounts([demand()], {"requests": 5.0})[1][1] == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("amounts", "ends"),
    [
        ({1: (0, 10.0)}, {1: 5.0}),
        ({1: (0, 10.0), 2: (0, 10.0)}, {1: 10.0, 2: 10.0}),
        ({1: (0, 10.0), 2: (0, 2.0)}, {1: 6.0, 2: 2.0}),
        ({1: (0, 2.0), 2: (0, 4.0), 3: (0, 10.0)}, {1: 3.0, 2: 5.0, 3: 8.0}),
        ({1: (0, 10.0), 2: (5, 2.0)}, {1: 6.0, 2: 1.0}),
        ({1: (-1, 2.0), 2: (0, 4.0), 3: (0, 4.0)}, {1: 5.0, 2: 4.0, 3: 4.0}),
        ({}, {}),
    ],
)
def test_equals_share_evenly_and_priority_goes_first(
    amounts: dict[int, tuple[int, float]], ends: dict[int, float]
) -> None:
    assert sharing.finish(amounts, 2.0) == pytest.approx(ends)


def test_at_an_unknown_speed_nothing_ends() -> None:
    assert sharing.finish({1: (0, 1.0)}, None) == {1: math.inf}
