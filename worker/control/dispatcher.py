"""Dispatch: choose the slices that go to the workers next, and keep as few as possible outside SQL."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlmodel import Session

from providers.deployment import Deployment
from worker.catalog import Catalog
from worker.celery_app import provider_queue
from worker.database import Database
from worker.doorbell import Doorbell
from worker.routes import RouteError
from worker.store import dispatching, processes, scopes, slices

AHEAD_SECONDS = 20.0
"""Of a limited scope, this much of its quota may be outside SQL, or one slice for each process."""
KEPT_PART = 8
"""One of so many places of a provider's workers is kept for batches of which nothing is outside SQL."""
SMALL = 0.25
"""Slices with fewer open jobs than this part of a full one are merged before they are published again."""
HELD_AT_ONCE = 500
"""Held jobs of one message."""
PROBE_SECONDS = 120.0
"""If nothing is heard of a probe for so long, another one may go."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A slice to publish, and the paused scope that it is to probe, if any."""

    slice: int
    batch: int
    batch_id: str
    provider: str
    jobs: int
    probe: str | None


@dataclass(frozen=True, slots=True)
class HeldChoice:
    """A held job's slice to publish."""

    slice: int
    probe: str | None


class Dispatcher:
    """One tick looks at everything and publishes what fits. Only the elected leader ticks."""

    def __init__(self, database: Database, catalog: Catalog, doorbell: Doorbell, lease_seconds: float) -> None:
        self._database = database
        self._catalog = catalog
        self._doorbell = doorbell
        self._lease_seconds = lease_seconds

    def tick(self) -> int:
        """Publish and ring; how many slices."""
        with self._database.read() as session:
            survey = _Survey(session, self._catalog, self._lease_seconds)
            held, held_blocked = survey.choose_held()
            choices, blocked = survey.choose()
            blocked |= held_blocked
            news = blocked != dispatching.blocked(session)
            unheard = dispatching.unheard(session)
        if news:
            self._database.write(lambda session: dispatching.mark_blocked(session, blocked))
        rung = self._publish_held([choice.slice for choice in held if choice.probe is None], None)
        rung += sum(self._publish_held([choice.slice], choice.probe) for choice in held if choice.probe is not None)
        rung += sum(self._publish(choice) for choice in choices)
        if unheard:
            self._ring_again(self._database.write(lambda session: dispatching.ring_again(session, unheard)))
        return rung

    def _ring_again(self, rows: Sequence[Any]) -> None:
        held = [(row.id, row.epoch) for row in rows if row.provider is None]
        if held:
            self._doorbell.ring_held(held)
        for row in rows:
            if row.provider is not None:
                self._doorbell.ring_slice(
                    provider=row.provider,
                    batch_id=row.batch_id,
                    slice=row.id,
                    epoch=row.epoch,
                    jobs=row.open,
                    probe=None,
                )

    def merge_small(self) -> None:
        """Regroup what is left of slices whose other jobs are done."""
        with self._database.read() as session:
            groups = list(_small_groups(session, self._catalog))
        for batch, ids in groups:
            self._database.write(lambda session, batch=batch, ids=ids: dispatching.merge(session, batch, ids))  # type: ignore[misc]

    def _publish_held(self, chosen: Sequence[int], probe: str | None) -> int:
        """All in one transaction and one message; how many."""
        published: list[tuple[int, int]] = []
        for start in range(0, len(chosen), HELD_AT_ONCE):
            some = chosen[start : start + HELD_AT_ONCE]
            found = self._database.write(partial(_published, chosen=some, provider=None, probe=probe))
            if found and self._doorbell.ring_held(found, probe):
                published += found
        return len(published)

    def _publish(self, choice: Choice) -> bool:
        found = self._database.write(
            partial(_published, chosen=[choice.slice], provider=choice.provider, probe=choice.probe)
        )
        if not found:
            return False
        [(_, epoch)] = found
        return self._doorbell.ring_slice(
            provider=choice.provider,
            batch_id=choice.batch_id,
            slice=choice.slice,
            epoch=epoch,
            jobs=choice.jobs,
            probe=choice.probe,
        )


def _published(
    session: Session, chosen: Sequence[int], provider: str | None, probe: str | None
) -> list[tuple[int, int]]:
    """(slice, epoch) of those that were still ready; none if they cannot have the right to probe any more."""
    tried = [(slice, slices.publish(session, slice, provider)) for slice in chosen]
    found = [(slice, epoch) for slice, epoch in tried if epoch is not None]
    if found and probe is not None and not scopes.probe(session, probe, PROBE_SECONDS):
        session.rollback()
        return []
    return found


class _Survey:
    """What one tick sees, and what it has already given away."""

    def __init__(self, session: Session, catalog: Catalog, lease_seconds: float) -> None:
        self._session = session
        self._catalog = catalog
        self._paused = scopes.paused(session)
        self._probing: set[str] = set()
        self._batches = dispatching.running(session)
        self._routes = dispatching.unfinished_routes(session, [batch.number for batch in self._batches])
        self._workers = processes.living(session, lease_seconds)
        outside = dispatching.outside(session)
        self._slices_of: Counter[str] = Counter()
        self._batch_slices: Counter[int] = Counter()
        self._owner_slices: Counter[str] = Counter()
        self._route_slices: Counter[str] = Counter()
        owners = {batch.number: batch.owner for batch in self._batches}
        for row in outside:
            self._count(row.provider, row.batch, owners.get(row.batch, ""), row.route, row.slices)

    def choose_held(self) -> tuple[list[HeldChoice], set[int]]:
        """All held jobs that may start, and those that cannot: they come before everything else."""
        choices, blocked = [], set()
        for row in dispatching.held(self._session):
            deployment = self._usable(row.route)
            if deployment is None:
                blocked.add(row.batch)
            elif row.due:
                probe = deployment.scope if deployment.scope in self._paused else None
                self._probing.update(() if probe is None else (probe,))
                choices.append(HeldChoice(row.id, probe))
        return choices, blocked

    def choose(self) -> tuple[list[Choice], set[int]]:
        """The slices to publish, fairly over owners and batches of one priority; and the batches that cannot go on."""
        open_routes = {batch.number: self._open_routes(batch.number) for batch in self._batches}
        waiting = {
            batch.number: list(self._ready(batch, open_routes[batch.number]))
            for batch in self._batches
            if open_routes[batch.number]
        }
        choices = []
        while batch := self._next([batch for batch in self._batches if waiting.get(batch.number)]):
            row = waiting[batch.number].pop(0)
            choice = self._fit(batch, row, open_routes[batch.number])
            if choice is not None:
                choices.append(choice)
                self._count(choice.provider, batch.number, batch.owner, row.route, 1)
        startable = {number for number, routes in open_routes.items() if routes}
        return choices, set(dispatching.idle(self._session)) - startable

    def _next(self, batches: list[Any]) -> Any:
        return min(
            batches,
            key=lambda batch: (
                -batch.priority,
                self._owner_slices[batch.owner],
                self._batch_slices[batch.number],
                batch.number,
            ),
            default=None,
        )

    def _open_routes(self, number: int) -> dict[str, Deployment]:
        """Routes of the batch that some provider may serve now, with the deployment whose provider is to get them."""
        found = {route: self._usable(route) for route in self._routes.get(number, ())}
        return {route: usable for route, usable in found.items() if usable is not None}

    def _usable(self, route: str) -> Deployment | None:
        try:
            deployments = self._catalog.resolve(route).deployments
        except RouteError:
            return None
        usable = next((one for one in deployments if one.scope not in self._paused), None)
        return usable or next((one for one in deployments if self._may_probe(one.scope)), None)

    def _may_probe(self, scope: str) -> bool:
        return scope not in self._probing and self._paused[scope].probe_in == 0

    def _ready(self, batch: Any, routes: dict[str, Deployment]) -> Sequence[Any]:
        """Enough slices to choose from. If there are more, some of each route: none stands behind another's limit."""
        room = sum(max(0, self._room(provider)) for provider in {one.provider for one in routes.values()})
        if room <= 0:
            return []
        rows = dispatching.ready(self._session, batch.number, routes.keys(), batch.line_limit, room)
        if len(rows) < room or len(routes) == 1:
            return rows
        each = [
            dispatching.ready(self._session, batch.number, [route], batch.line_limit, max(0, self._room(one.provider)))
            for route, one in routes.items()
        ]
        return sorted((row for rows in each for row in rows), key=lambda row: row.first_line)

    def _fit(self, batch: Any, row: Any, routes: dict[str, Deployment]) -> Choice | None:
        deployment = routes[row.route]
        is_first = self._batch_slices[batch.number] == 0
        if self._room(deployment.provider) <= (0 if is_first else self._kept(deployment.provider)):
            return None
        if not is_first and self._route_slices[row.route] >= self._most(deployment, row):
            return None
        probe = deployment.scope if deployment.scope in self._paused else None
        if probe is not None and probe in self._probing:
            return None
        if probe is not None:
            self._probing.add(probe)
        return Choice(row.id, batch.number, batch.id, deployment.provider, row.open, probe)

    def _room(self, provider: str) -> int:
        return self._slots(provider) - self._slices_of[provider]

    def _kept(self, provider: str) -> int:
        """Places that long batches leave to the first slices of others, so that short ones never wait for a slice."""
        return self._slots(provider) // KEPT_PART

    def _slots(self, provider: str) -> int:
        queue = provider_queue(provider)
        return sum(worker.slots for worker in self._workers if queue in worker.queues)

    def _most(self, deployment: Deployment, row: Any) -> float:
        limit = self._catalog.limits(deployment).requests_per_minute
        if limit is None:
            return math.inf
        queue = provider_queue(deployment.provider)
        processes = sum(queue in worker.queues for worker in self._workers)
        return float(max(processes, math.ceil(limit / 60 * AHEAD_SECONDS / max(1, row.open))))

    def _count(self, provider: str, batch: int, owner: str, route: str, count: int) -> None:
        self._slices_of[provider] += count
        self._batch_slices[batch] += count
        self._owner_slices[owner] += count
        self._route_slices[route] += count


def _small_groups(session: Session, catalog: Catalog) -> Sequence[tuple[int, list[int]]]:
    groups: list[tuple[int, list[int]]] = []
    batches = dispatching.running(session)
    for batch in batches:
        rows = dispatching.ready(
            session,
            batch.number,
            dispatching.unfinished_routes(session, [batch.number]).get(batch.number, ()),
            batch.line_limit,
            400,
        )
        for route in {row.route for row in rows}:
            full = catalog.slice_jobs(route)
            small = [row for row in rows if row.route == route and not row.suspected and row.open < full * SMALL]
            group, size = [], 0
            for row in small:
                if size + row.open > full:
                    break
                group.append(row.id)
                size += row.open
            if len(group) > 1:
                groups.append((batch.number, group))
    return groups
