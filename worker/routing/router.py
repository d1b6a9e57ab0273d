"""Which deployment a process calls next for a slice, and where its lines go when that one fails them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from providers.deployment import Deployment
from worker.alias_config import Fallback
from worker.catalog import Catalog
from worker.routes import Route, RouteError
from worker.routing import strategies
from worker.routing import trail as trails
from worker.routing.strategies import Candidate, Turns
from worker.store.slices import Claim


class Load(Protocol):
    """A scope as its process knows it."""

    @property
    def in_flight(self) -> int: ...

    @property
    def latency(self) -> float:
        """Mean seconds of the last answers; 0 while there was none."""

    @property
    def headroom(self) -> float | None:
        """The part of its scarcest quota that is left, 0 to 1; None if none is known."""


class Resting(Protocol):
    """Which scopes must not be called, and which should not while there are others."""

    def reason(self, scope: str) -> str | None: ...

    def cools(self, scope: str) -> float: ...

    def stumbled(self, scope: str, seconds: float) -> None: ...

    def avoid(self, scope: str, seconds: float) -> None: ...


class Router:
    """Lives on the engine's loop."""

    def __init__(self, catalog: Catalog, resting: Resting, load_of: Callable[[Deployment], Load]) -> None:
        self._catalog = catalog
        self._resting = resting
        self._load_of = load_of
        self._turns: dict[str, Turns] = {}

    def deployment(self, claim: Claim, probe: str | None) -> Deployment | None:
        """The one to call, or to probe; None if the slice had better go elsewhere."""
        route = self._resolved(claim.serving)
        if route is None:
            return None
        if probe is not None:
            return next((one for one in route.deployments if one.scope == probe), None)
        return self._choose(route, claim.provider)

    def took(self, claim: Claim, deployment: Deployment, calls: int) -> None:
        """So many calls went there."""
        route = self._resolved(claim.serving)
        if route is not None and len(route.deployments) > 1:
            candidate = Candidate(key=deployment.name, weight=route.weight(deployment))
            self._turns_of(route).took(candidate, calls)

    def stumbled(self, claim: Claim, deployment: Deployment) -> bool:
        """A failure or a 429 there. True if another one can take the line at once."""
        others = self._others(claim, deployment)
        if others:
            route = self._catalog.resolve(claim.serving)
            self._resting.stumbled(deployment.scope, route.cooldown)
        return any(self._is_warm(one.scope) for one in others)

    def avoid(self, claim: Claim, deployment: Deployment, seconds: float) -> bool:
        """Its quota is spent for so long. True if another one can take the slice's lines."""
        warm = any(self._is_warm(one.scope) for one in self._others(claim, deployment))
        if warm:
            self._resting.avoid(deployment.scope, seconds)
        return warm

    def onward(self, claim: Claim, kind: Fallback) -> str | None:
        """The trail of a line that goes on with the next fallback, one that does not rest if there is any."""
        if not claim.allow_fallback:
            return None
        rungs = [name for name in self._catalog.rungs(claim.route, claim.trail, kind) if self._may_serve(claim, name)]
        awake = (name for name in rungs if self._is_awake(name))
        chosen = next(awake, rungs[0] if rungs else None)
        return None if chosen is None else trails.onward(claim.trail, kind, chosen)

    def priced(self, claim: Claim) -> Claim:
        """With the prices of the fallback that serves it."""
        if not claim.trail:
            return claim
        route = self._resolved(claim.serving)
        prices = (None, None) if route is None else self._catalog.token_prices(claim.serving)
        return replace(claim, input_price=prices[0], output_price=prices[1])

    def _choose(self, route: Route, provider: str | None) -> Deployment | None:
        awake = [one for one in route.deployments if self._resting.reason(one.scope) is None]
        mine = [one for one in awake if provider in (None, one.provider)]
        if len(route.deployments) == 1 or not mine:
            return mine[0] if mine else None
        warm = [one for one in mine if not self._resting.cools(one.scope)]
        if not warm:
            elsewhere = any(not self._resting.cools(one.scope) for one in awake)
            return None if elsewhere else min(mine, key=lambda one: self._resting.cools(one.scope))
        candidates = {one.name: self._candidate(route, one) for one in warm}
        open = [one for one in candidates.values() if one.headroom is None or one.headroom > 0]
        chosen = strategies.choose(route.strategy, open or list(candidates.values()), self._turns_of(route))
        return next(one for one in warm if one.name == chosen.key)

    def _candidate(self, route: Route, deployment: Deployment) -> Candidate:
        load = self._load_of(deployment)
        return Candidate(
            key=deployment.name,
            weight=route.weight(deployment),
            in_flight=load.in_flight,
            price=self._catalog.price_of(deployment),
            seconds=load.latency or None,
            headroom=load.headroom,
        )

    def _others(self, claim: Claim, deployment: Deployment) -> list[Deployment]:
        route = self._resolved(claim.serving)
        return [one for one in route.deployments if one.scope != deployment.scope] if route is not None else []

    def _is_warm(self, scope: str) -> bool:
        return self._resting.reason(scope) is None and not self._resting.cools(scope)

    def _may_serve(self, claim: Claim, name: str) -> bool:
        route = self._resolved(name)
        return route is not None and not (claim.is_limited and None in self._catalog.token_prices(name))

    def _is_awake(self, name: str) -> bool:
        return any(self._resting.reason(one.scope) is None for one in self._catalog.resolve(name).deployments)

    def _resolved(self, name: str) -> Route | None:
        try:
            return self._catalog.resolve(name)
        except RouteError:
            return None

    def _turns_of(self, route: Route) -> Turns:
        return self._turns.setdefault(route.name, Turns())
