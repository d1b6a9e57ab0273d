"""Dispatch: choose the slices that go to the workers next, and keep as few as possible outside SQL."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlmodel import Session

from providers.deployment import Deployment
from worker.alias_config import Strategy
from worker.catalog import Catalog
from worker.celery_app import provider_queue
from worker.control.ways import Lane, Traffic, Way, Ways
from worker.database import Database
from worker.doorbell import Doorbell
from worker.routes import RouteError
from worker.routing import trail as trails
from worker.routing.strategies import Turns
from worker.store import dispatching, loads, processes, scopes, slices

AHEAD_SECONDS = 20.0
"""Of a limited scope, this much of its quota may be outside SQL, or one slice for each process."""
KEPT_PART = 8
"""One of so many places of a provider's workers is kept for batches of which nothing is outside SQL."""
SMALL = 0.25
"""Slices with fewer open jobs than this part of a full one are merged before they are published again."""
HELD = 0
"""In the turns, where batches have their numbers: all held jobs together."""
HELD_AT_ONCE = 500
"""Held jobs of one message."""
PROBE_SECONDS = 120.0
"""If nothing is heard of a probe for so long, another one may go."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A slice to publish, with the trail that it gets, and the paused scope that it is to probe, if any."""

    slice: int
    batch: int
    batch_id: str
    provider: str
    jobs: int
    probe: str | None
    trail: str


@dataclass(frozen=True, slots=True)
class HeldChoice:
    """A held job's slice to publish."""

    slice: int
    probe: str | None
    trail: str


class Dispatcher:
    """One tick looks at everything and publishes what fits. Only the elected leader ticks."""

    def __init__(self, database: Database, catalog: Catalog, doorbell: Doorbell, lease_seconds: float) -> None:
        self._database = database
        self._catalog = catalog
        self._doorbell = doorbell
        self._lease_seconds = lease_seconds
        self._turns: dict[tuple[int, str], Turns] = {}

    def tick(self) -> int:
        """Publish and ring; how many slices."""
        with self._database.read() as session:
            survey = _Survey(session, self._catalog, self._lease_seconds, self._turns)
            held, held_blocked = survey.choose_held()
            choices, blocked = survey.choose()
            blocked |= held_blocked
            news = blocked != dispatching.blocked(session)
            unheard = dispatching.unheard(session)
        if news:
            self._database.write(lambda session: dispatching.mark_blocked(session, blocked))
        rung = self._publish_held([choice for choice in held if choice.probe is None], None)
        rung += sum(self._publish_held([choice], choice.probe) for choice in held if choice.probe is not None)
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

    def _publish_held(self, chosen: Sequence[HeldChoice], probe: str | None) -> int:
        """All in one transaction and one message; how many."""
        published: list[tuple[int, int]] = []
        for start in range(0, len(chosen), HELD_AT_ONCE):
            some = chosen[start : start + HELD_AT_ONCE]
            found = self._database.write(partial(_published, chosen=some, provider=None, probe=probe))
            if found and self._doorbell.ring_held(found, probe):
                published += found
        return len(published)

    def _publish(self, choice: Choice) -> bool:
        found = self._database.write(partial(_published, chosen=[choice], provider=choice.provider, probe=choice.probe))
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
    session: Session, chosen: Sequence[Choice | HeldChoice], provider: str | None, probe: str | None
) -> list[tuple[int, int]]:
    """(slice, epoch) of those that were still ready; none if they cannot have the right to probe any more."""
    tried = [(one.slice, slices.publish(session, one.slice, provider, one.trail)) for one in chosen]
    found = [(slice, epoch) for slice, epoch in tried if epoch is not None]
    if found and probe is not None and not scopes.probe(session, probe, PROBE_SECONDS):
        session.rollback()
        return []
    return found


class _Survey:
    """What one tick sees, and what it has already given away."""

    def __init__(
        self, session: Session, catalog: Catalog, lease_seconds: float, turns: dict[tuple[int, str], Turns]
    ) -> None:
        self._session = session
        self._catalog = catalog
        self._batches = dispatching.running(session)
        numbers = [batch.number for batch in self._batches]
        self._routes = dispatching.unfinished_routes(session, numbers)
        generous = [batch.number for batch in self._batches if batch.allow_fallback]
        self._detours = dispatching.detours(session, generous) if generous else {}
        self._workers = processes.living(session, lease_seconds)
        outside = dispatching.outside(session)
        self._slices_of: Counter[str] = Counter()
        self._batch_slices: Counter[int] = Counter()
        self._owner_slices: Counter[str] = Counter()
        self._route_slices: Counter[tuple[str, str]] = Counter()
        self._jobs: Counter[str] = Counter()
        owners = {batch.number: batch.owner for batch in self._batches}
        for row in outside:
            self._count(row.provider, row.batch, owners.get(row.batch, ""), row.route, row.slices, int(row.open or 0))
        for gone in [key for key in turns if key[0] not in {HELD, *numbers}]:
            del turns[gone]
        traffic = Traffic(
            paused=scopes.paused(session),
            cooling=scopes.cooling(session),
            is_served=lambda provider: self._slots(provider) > 0,
            room=self._room,
            jobs=self._jobs,
            headroom=self._headroom,
            seconds=loads.seconds(session) if catalog.uses(Strategy.LOWEST_LATENCY) else {},
        )
        self._known_headroom = loads.headroom(session) if catalog.uses(Strategy.MOST_HEADROOM) else {}
        self._ways = Ways(catalog, traffic, turns)

    def choose_held(self) -> tuple[list[HeldChoice], set[int]]:
        """All held jobs that may start, and those that cannot: they come before everything else."""
        choices, blocked = [], set()
        for row in dispatching.held(self._session):
            lane = Lane(
                batch=HELD,
                route=row.route,
                trail=row.trail,
                allow_fallback=row.allow_fallback,
                is_limited=bool(row.is_limited),
            )
            way = self._ways.find(lane)
            if way is None:
                blocked.add(row.batch)
            elif row.due:
                self._ways.took(lane, way, 1)
                choices.append(HeldChoice(row.id, way.probe, way.trail))
        return choices, blocked

    def choose(self) -> tuple[list[Choice], set[int]]:
        """The slices to publish, fairly over owners and batches of one priority; and the batches that cannot go on."""
        open_lanes = {batch.number: self._open_lanes(batch) for batch in self._batches}
        waiting = {
            batch.number: list(self._ready(batch, open_lanes[batch.number]))
            for batch in self._batches
            if open_lanes[batch.number]
        }
        choices = []
        while batch := self._next([batch for batch in self._batches if waiting.get(batch.number)]):
            row = waiting[batch.number].pop(0)
            choice = self._fit(batch, row)
            if choice is not None:
                choices.append(choice)
                self._count(choice.provider, batch.number, batch.owner, row.route, 1, choice.jobs)
        startable = {number for number, lanes in open_lanes.items() if lanes}
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

    def _open_lanes(self, batch: Any) -> dict[Lane, Way]:
        """Lanes of the batch that somebody may serve now."""
        routes = self._routes.get(batch.number, ())
        names = [(route, "") for route in routes]
        names += [(route, trail) for route, trail in self._detours.get(batch.number, ()) if route in routes]
        found = {lane: self._ways.find(lane) for lane in (_lane(batch, *name) for name in names)}
        return {lane: way for lane, way in found.items() if way is not None}

    def _ready(self, batch: Any, lanes: dict[Lane, Way]) -> Sequence[Any]:
        """Enough slices to choose from. If there are more, some of each lane: none stands behind another's limit."""
        room = self._rooms({provider for way in lanes.values() for provider in way.providers})
        if room <= 0:
            return []
        names = [(lane.route, lane.trail) for lane in lanes]
        rows = dispatching.ready(self._session, batch.number, names, batch.line_limit, room)
        if len(rows) < room or len(lanes) == 1:
            return rows
        each = [
            dispatching.ready(self._session, batch.number, [name], batch.line_limit, self._rooms(way.providers))
            for name, way in zip(names, lanes.values(), strict=True)
        ]
        return sorted((row for rows in each for row in rows), key=lambda row: row.first_line)

    def _fit(self, batch: Any, row: Any) -> Choice | None:
        lane = _lane(batch, row.route, row.trail)
        way = self._ways.find(lane)
        is_first = self._batch_slices[batch.number] == 0
        if way is None or self._room(way.provider) <= (0 if is_first else self._kept(way.provider)):
            return None
        if not is_first and self._route_slices[(way.provider, row.route)] >= self._most(way, row):
            return None
        self._ways.took(lane, way, row.open)
        return Choice(row.id, batch.number, batch.id, way.provider, row.open, way.probe, way.trail)

    def _rooms(self, providers: Iterable[str]) -> int:
        return sum(max(0, self._room(provider)) for provider in providers)

    def _room(self, provider: str) -> int:
        return self._slots(provider) - self._slices_of[provider]

    def _kept(self, provider: str) -> int:
        """Places that long batches leave to the first slices of others, so that short ones never wait for a slice."""
        return self._slots(provider) // KEPT_PART

    def _slots(self, provider: str) -> int:
        queue = provider_queue(provider)
        return sum(worker.slots for worker in self._workers if queue in worker.queues)

    def _most(self, way: Way, row: Any) -> float:
        limits = [self._catalog.limits(one).requests_per_minute for one in way.deployments]
        known = [limit for limit in limits if limit is not None]
        if len(known) < len(limits):
            return math.inf
        queue = provider_queue(way.provider)
        processes = sum(queue in worker.queues for worker in self._workers)
        return float(max(processes, math.ceil(sum(known) / 60 * AHEAD_SECONDS / max(1, row.open))))

    def _headroom(self, deployment: Deployment) -> float | None:
        """As the workers know it; else what is left of a configured limit when all that is outside has gone out."""
        if deployment.scope in self._known_headroom:
            return self._known_headroom[deployment.scope]
        limit = self._catalog.limits(deployment).requests_per_minute
        return None if limit is None else max(0.0, 1 - self._jobs[deployment.provider] / (limit / 60 * AHEAD_SECONDS))

    def _count(self, provider: str, batch: int, owner: str, route: str, count: int, jobs: int) -> None:
        self._slices_of[provider] += count
        self._batch_slices[batch] += count
        self._owner_slices[owner] += count
        self._route_slices[(provider, route)] += count
        self._jobs[provider] += jobs


def _lane(batch: Any, route: str, trail: str) -> Lane:
    return Lane(
        batch=batch.number,
        route=route,
        trail=trail,
        allow_fallback=batch.allow_fallback,
        is_limited=bool(batch.is_limited),
    )


def _small_groups(session: Session, catalog: Catalog) -> Sequence[tuple[int, list[int]]]:
    groups: list[tuple[int, list[int]]] = []
    batches = dispatching.running(session)
    for batch in batches:
        routes = dispatching.unfinished_routes(session, [batch.number]).get(batch.number, ())
        detours = dispatching.detours(session, [batch.number]) if batch.allow_fallback else {}
        lanes = [*((route, "") for route in routes), *detours.get(batch.number, ())]
        rows = dispatching.ready(session, batch.number, lanes, batch.line_limit, 400)
        for route, trail in {(row.route, row.trail) for row in rows}:
            full = _full(catalog, trails.serving(route, trail))
            small = [
                row
                for row in rows
                if (row.route, row.trail) == (route, trail) and not row.suspected and row.open < full * SMALL
            ]
            group, size = [], 0
            for row in small:
                if size + row.open > full:
                    break
                group.append(row.id)
                size += row.open
            if len(group) > 1:
                groups.append((batch.number, group))
    return groups


def _full(catalog: Catalog, route: str) -> int:
    """Lines of a full slice. Where several providers share, or none is left, nothing is small."""
    try:
        return catalog.slice_jobs(route) if len(catalog.resolve(route).providers) == 1 else 0
    except RouteError:
        return 0
