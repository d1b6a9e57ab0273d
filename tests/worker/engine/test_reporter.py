from collections.abc import Mapping
from typing import Any

from worker.catalog import ScopeLimits
from worker.engine.reporter import Reporter
from worker.limiter.exchange import QuotaGrant
from worker.limiter.report import ScopeReport

SCOPE = "mill/default/flour"


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def grant(limit: float, by: str) -> QuotaGrant:
    return QuotaGrant(granted=0.0, limit=limit, level=3.0, by=by)


def scope(quotas: Mapping[str, QuotaGrant] | None = None, **facts: Any) -> ScopeReport:
    values: dict[str, Any] = {"window": 8.0, "in_flight": 2, "waiting": 1, "rest": 0.0, "share": 0.5, "latency": 0.1}
    return ScopeReport(scope=SCOPE, quotas=quotas or {}, **{**values, **facts})


def reporter(clock: Clock) -> Reporter:
    return Reporter(lambda scope: ScopeLimits(told={"requests": 60.0}, share=0.5), clock)


def test_what_is_new_is_told_until_it_is_stored() -> None:
    mine = reporter(Clock())
    [first] = mine.news([scope()])
    assert mine.news([scope()]) == [first]
    mine.stored([first])
    assert mine.news([scope(latency=0.2)]) == []
    assert len(mine.news([scope(in_flight=3)])) == len(mine.news([scope(rest=4.0)])) == 1


def test_limits_are_told_before_any_share_of_them() -> None:
    quotas = {"requests": grant(30.0, "config"), "tokens": grant(500.0, "headers")}
    [report] = reporter(Clock()).news([scope(quotas)])
    assert {quota: (state.allowed, state.source) for quota, state in report.quotas.items()} == {
        "requests": (60.0, "config"),
        "tokens": (1_000.0, "headers"),
    }


def test_what_was_only_remembered_is_not_told_again() -> None:
    [report] = reporter(Clock()).news([scope({"tokens": grant(500.0, "config")})])
    assert report.quotas == {}


def test_calls_are_counted_for_a_minute() -> None:
    clock = Clock()
    mine = reporter(clock)
    for second in range(100):
        clock.now = 1_000.0 + second
        mine.ended(SCOPE, 10)
        mine.ended(SCOPE, 0)
    [report] = mine.news([scope()])
    assert (report.requests, report.tokens) == (120, 600)
    mine.stored([report])
    clock.now += 30
    [report] = mine.news([scope()])
    assert (report.requests, report.tokens) == (60, 300)
    clock.now += 60
    [report] = mine.news([scope()])
    assert (report.requests, report.tokens) == (0, 0)
