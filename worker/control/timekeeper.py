"""Watches how batches get on, and writes down when each will be done."""

import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

from providers.deployment import Deployment
from worker.catalog import Catalog
from worker.control import sharing
from worker.control.pace import Pace
from worker.control.sharing import Demand
from worker.database import Database
from worker.routes import RouteError
from worker.store import etas, scopes

ENOUGH_ENDED = 5
"""So many ended lines tell better than the estimate what a line uses."""
NEWS = 0.02
"""What moves by less than this part of the time left, or by less than a second, is not written again."""
REWRITE_SECONDS = etas.FRESH_SECONDS / 3


class Timekeeper:
    """One tick looks at all running batches. What it has seen is kept in memory: a new leader begins anew."""

    def __init__(self, database: Database, catalog: Catalog, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._catalog = catalog
        self._clock = clock
        self._done: dict[tuple[int, str], int] = {}
        self._paces: dict[str, Pace] = {}
        self._written_at = -math.inf

    def tick(self) -> None:
        with self._database.read() as session:
            rows, before = etas.running(session), etas.stored(session)
            resting = scopes.paused(session).keys()
            now = etas.now(session)
        usable = {row.route: self._usable(row.route, resting) for row in rows}
        demands = _demands(rows, usable)
        running = [one for one in demands if one.scopes]
        self._measure(rows, {one.route for one in running})
        left = self._left(running, usable)
        for waiting in demands:
            if not waiting.scopes:
                left.pop(waiting.batch, None)
        self._write(before, {row.batch: (row.owner, now + left[row.batch]) for row in rows if row.batch in left}, now)

    def _usable(self, route: str, resting: Collection[str]) -> dict[str, Deployment]:
        """The deployments that may serve the route now, by scope."""
        try:
            deployments = self._catalog.resolve(route).deployments
        except RouteError:
            return {}
        return {one.scope: one for one in deployments if one.scope not in resting}

    def _measure(self, rows: Sequence[Any], busy: Collection[str]) -> None:
        ended: Counter[str] = Counter()
        for row in rows:
            ended[row.route] += max(0, row.done - self._done.get((row.batch, row.route), row.done))
        self._done = {(row.batch, row.route): row.done for row in rows}
        self._paces = {route: self._paces.get(route, Pace()) for route in ended}
        for route, pace in self._paces.items():
            if route in busy:
                pace.add(self._clock(), ended[route])
            else:
                pace.rest()

    def _left(self, demands: Sequence[Demand], usable: Mapping[str, Mapping[str, Deployment]]) -> dict[int, float]:
        """Seconds of each batch, as many as the slowest of its models needs; nothing where one of them is unknown."""
        measured = {route: pace.per_second for route, pace in self._paces.items()}
        paces = {route: pace for route, pace in measured.items() if pace is not None}
        left: dict[int, float] = {}
        for pool in sharing.pools(demands):
            deployments = {scope: one for demand in pool for scope, one in usable[demand.route].items()}
            per_second = sharing.quota([self._catalog.limits(one).per_second for one in deployments.values()])
            speed = sharing.speed(pool, paces, per_second)
            for batch, seconds in sharing.finish(sharing.amounts(pool, per_second), speed).items():
                left[batch] = max(seconds, left.get(batch, 0.0))
        return {batch: seconds for batch, seconds in left.items() if seconds < math.inf}

    def _write(self, before: Mapping[int, float], done_at: Mapping[int, tuple[str, float]], now: float) -> None:
        gone = [batch for batch in before if batch not in done_at]
        is_old = self._clock() > self._written_at + REWRITE_SECONDS
        news = {
            batch: (owner, moment)
            for batch, (owner, moment) in done_at.items()
            if is_old or abs(moment - before.get(batch, 0.0)) > max(1.0, NEWS * (moment - now))
        }
        if is_old:
            self._written_at = self._clock()
        if news or gone:
            self._database.write(partial(etas.store, done_at=news, gone=gone))


def _demands(rows: Sequence[Any], usable: Mapping[str, Mapping[str, Deployment]]) -> list[Demand]:
    """What is still to be done; under a limit of lines only the part of it that may be. No scopes: it waits."""
    open_lines: Counter[int] = Counter()
    for row in rows:
        open_lines[row.batch] += row.lines - row.done
    found = []
    for row in rows:
        hidden = 0 if row.line_limit is None else max(0, row.total - row.line_limit)
        part = max(0.0, 1 - hidden / open_lines[row.batch]) if open_lines[row.batch] else 0.0
        if row.lines > row.done and part > 0:
            scopes = frozenset(() if row.waits else usable[row.route])
            found.append(_demand(row, (row.lines - row.done) * part, scopes))
    return found


def _demand(row: Any, lines: float, scopes: frozenset[str]) -> Demand:
    is_told = row.done >= ENOUGH_ENDED and row.input_tokens + row.output_tokens > 0
    count = row.done if is_told else row.lines
    return Demand(
        batch=row.batch,
        route=row.route,
        scopes=scopes,
        priority=row.priority,
        lines=lines,
        input_tokens=(row.input_tokens if is_told else row.estimated_input_tokens) / count,
        output_tokens=(row.output_tokens if is_told else row.estimated_output_tokens) / count,
    )
