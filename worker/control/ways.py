"""Where the slices of a lane go next: to which provider, as whose probe, or on with a fallback."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from providers.deployment import Deployment
from worker.alias_config import Fallback, Strategy
from worker.catalog import Catalog
from worker.routes import Route, RouteError
from worker.routing import strategies
from worker.routing import trail as trails
from worker.routing.strategies import Candidate, Turns
from worker.store.scopes import PausedScope

STRICT = (Strategy.WEIGHTED, Strategy.LOWEST_COST)
"""Rather wait for whom they choose than send more than its share elsewhere."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lane:
    """Slices of a batch that go the same way. ``is_limited``: they may not go where the price is unknown."""

    batch: int
    route: str
    trail: str = ""
    allow_fallback: bool = False
    is_limited: bool = False

    @property
    def serving(self) -> str:
        return trails.serving(self.route, self.trail)


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """``deployments`` are those of the provider that may be called, ``providers`` all that might have been chosen."""

    provider: str
    deployments: tuple[Deployment, ...]
    providers: tuple[str, ...]
    serving: str
    trail: str
    probe: str | None = None


@dataclass(kw_only=True, slots=True)
class Traffic:
    """How the providers stand in one tick."""

    paused: Mapping[str, PausedScope]
    cooling: Mapping[str, float]
    is_served: Callable[[str], bool]
    """Whether any living worker takes slices of the provider."""
    room: Callable[[str], int]
    jobs: Mapping[str, int]
    """Outside SQL, by provider."""
    headroom: Callable[[Deployment], float | None]
    seconds: Mapping[str, float] = field(default_factory=dict)
    """What an answer of a scope takes."""


class Ways:
    """Of one tick; ``turns`` outlive it, by batch and serving route."""

    def __init__(self, catalog: Catalog, traffic: Traffic, turns: dict[tuple[int, str], Turns]) -> None:
        self._catalog = catalog
        self._traffic = traffic
        self._turns = turns
        self._probing: set[str] = set()

    def find(self, lane: Lane) -> Way | None:
        """Whoever is awake; else a resting scope whose probe is due; else, where that is allowed, a fallback."""
        route = self._resolved(lane.serving)
        if route is not None and (way := self._awake(lane, route, lane.trail) or self._probe(lane, route)):
            return way
        if not lane.allow_fallback:
            return None
        return next(self._fallbacks(lane), None)

    def took(self, lane: Lane, way: Way, jobs: int) -> None:
        """A slice of so many jobs goes that way."""
        if way.probe is not None:
            self._probing.add(way.probe)
        route = self._resolved(way.serving)
        if route is not None and len(route.providers) > 1:
            weight = sum(route.weight(one) for one in way.deployments)
            self._turns_of(lane, way.serving).took(Candidate(key=way.provider, weight=weight), jobs)

    def _fallbacks(self, lane: Lane) -> Iterator[Way]:
        for name in self._catalog.rungs(lane.route, lane.trail, Fallback.GENERAL):
            route = self._resolved(name)
            if route is None or (lane.is_limited and None in self._catalog.token_prices(name)):
                continue
            if way := self._awake(lane, route, trails.onward(lane.trail, Fallback.GENERAL, name)):
                yield way

    def _awake(self, lane: Lane, route: Route, trail: str) -> Way | None:
        awake = [one for one in route.deployments if one.scope not in self._traffic.paused]
        warm = [one for one in awake if one.scope not in self._traffic.cooling]
        if awake and not warm:
            warm = [min(awake, key=lambda one: self._traffic.cooling[one.scope])]
        of: dict[str, tuple[Deployment, ...]] = {}
        for one in warm:
            of[one.provider] = (*of.get(one.provider, ()), one)
        if not of:
            return None
        provider = self._choose(lane, route, of) if len(of) > 1 else next(iter(of))
        return Way(provider=provider, deployments=of[provider], providers=tuple(of), serving=route.name, trail=trail)

    def _choose(self, lane: Lane, route: Route, of: Mapping[str, tuple[Deployment, ...]]) -> str:
        candidates = [self._candidate(route, provider, deployments) for provider, deployments in of.items()]
        candidates = [one for one in candidates if self._traffic.is_served(one.key)] or candidates
        if route.strategy not in STRICT:
            candidates = [one for one in candidates if self._traffic.room(one.key) > 0] or candidates
        return strategies.choose(route.strategy, candidates, self._turns_of(lane, route.name)).key

    def _candidate(self, route: Route, provider: str, deployments: tuple[Deployment, ...]) -> Candidate:
        prices = [price for one in deployments if (price := self._catalog.price_of(one)) is not None]
        seconds = [self._traffic.seconds[one.scope] for one in deployments if one.scope in self._traffic.seconds]
        rooms = [self._traffic.headroom(one) for one in deployments]
        known = [room for room in rooms if room is not None]
        return Candidate(
            key=provider,
            weight=sum(route.weight(one) for one in deployments),
            in_flight=self._traffic.jobs.get(provider, 0),
            price=min(prices, default=None),
            seconds=min(seconds, default=None),
            headroom=max(known) if len(known) == len(rooms) else None,
        )

    def _probe(self, lane: Lane, route: Route) -> Way | None:
        for one in route.deployments:
            if one.scope not in self._probing and self._traffic.paused[one.scope].probe_in == 0:
                return Way(
                    provider=one.provider,
                    deployments=(one,),
                    providers=(one.provider,),
                    serving=route.name,
                    trail=lane.trail,
                    probe=one.scope,
                )
        return None

    def _resolved(self, name: str) -> Route | None:
        try:
            return self._catalog.resolve(name)
        except RouteError:
            return None

    def _turns_of(self, lane: Lane, serving: str) -> Turns:
        return self._turns.setdefault((lane.batch, serving), Turns())
