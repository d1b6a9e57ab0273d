"""What this process says of the scopes that it uses, and only what is new."""

import time
from collections import deque
from collections.abc import Callable, Sequence

from worker.catalog import ScopeLimits
from worker.limiter.report import ScopeReport
from worker.store.scope_reports import BY_CONFIG, QuotaState, Report

WINDOW_SECONDS = 60


class Reporter:
    """Lives on the engine's loop. ``limits_of`` says what was configured of a scope."""

    def __init__(
        self, limits_of: Callable[[str], ScopeLimits | None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limits_of = limits_of
        self._clock = clock
        self._minutes: dict[str, _Minute] = {}
        self._said: dict[str, Report] = {}

    def ended(self, scope: str, tokens: int) -> None:
        """A call is over that used so many."""
        self._minutes.setdefault(scope, _Minute()).add(int(self._clock()), tokens)

    def news(self, reports: Sequence[ScopeReport]) -> list[Report]:
        """Those that changed since they were ``stored``."""
        return [report for report in map(self._report, reports) if _key(report) != _key(self._said.get(report.scope))]

    def stored(self, reports: Sequence[Report]) -> None:
        self._said.update((report.scope, report) for report in reports)

    def _report(self, scope: ScopeReport) -> Report:
        requests, tokens = self._minutes.setdefault(scope.scope, _Minute()).sums(int(self._clock()))
        return Report(
            scope=scope.scope,
            quotas=self._quotas(scope),
            in_flight=scope.in_flight,
            waiting=scope.waiting,
            places=scope.window,
            seconds=scope.latency,
            rest=scope.rest,
            requests=requests,
            tokens=tokens,
        )

    def _quotas(self, scope: ScopeReport) -> dict[str, QuotaState]:
        """Without what is in force only because the database remembered it: nobody has told that anew."""
        limits = self._limits_of(scope.scope) or ScopeLimits()
        return {
            quota: QuotaState(allowed=grant.limit / scope.share, source=grant.by, level=grant.level)
            for quota, grant in scope.quotas.items()
            if grant.by != BY_CONFIG or quota in limits.told
        }


class _Minute:
    """Calls and tokens of the last minute, a second a row."""

    def __init__(self) -> None:
        self._rows: deque[list[int]] = deque()

    def add(self, second: int, tokens: int) -> None:
        if not self._rows or self._rows[-1][0] != second:
            self._rows.append([second, 0, 0])
            self._forget(second)
        self._rows[-1][1] += 1
        self._rows[-1][2] += tokens

    def sums(self, second: int) -> tuple[int, int]:
        self._forget(second)
        return sum(row[1] for row in self._rows), sum(row[2] for row in self._rows)

    def _forget(self, second: int) -> None:
        while self._rows and self._rows[0][0] <= second - WINDOW_SECONDS:
            self._rows.popleft()


def _key(report: Report | None) -> object:
    """What is worth a row: levels and rests pass by themselves."""
    if report is None:
        return None
    quotas = {quota: (state.allowed, state.source) for quota, state in report.quotas.items()}
    counts = (report.in_flight, report.waiting, report.requests, report.tokens)
    return quotas, counts, round(report.places, 1), report.rest > 0
