"""Which deployment is called, and where lines go on: loads and rests are played by the test."""

import dataclasses
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from providers.deployment import Deployment
from providers.pricing import PriceBook
from worker import config, settings
from worker.alias_config import Fallback
from worker.catalog import Catalog
from worker.routes import Routes
from worker.routing.router import Router
from worker.store.slices import Claim

CONFIG = """
providers:
  one: {base_url: 'http://127.0.0.1:9/v1', accounts: {a: {weight: 3}, b: {}}}
  two: {base_url: 'http://127.0.0.1:9/v1'}
models:
  either: [one/m, two/m]
  busy: {deployments: [two/m, two/n], strategy: least_busy}
  judge: {deployments: [two/m], fallbacks: {general: [spare, two/unpriced], context_window: [long]}}
  long: {deployments: [two/long], fallbacks: {general: [judge]}}
  spare: one/m
prices:
  two/m: {input: 1, output: 2}
  one/m: {input: 3, output: 4}
"""
CLAIM = Claim(
    slice=7, epoch=1, owner="local", batch=1, batch_id="b", route="either", alone=False, input_file_id="f",
    priority=0, answered=0, input_price=1, output_price=1, jobs=(),
)  # fmt: skip
A, B, TWO = "one/a/m", "one/b/m", "two/default/m"


@dataclass
class World:
    """What scopes do."""

    resting: set[str] = field(default_factory=set)
    cooling: dict[str, float] = field(default_factory=dict)
    busy: dict[str, int] = field(default_factory=dict)
    spent: set[str] = field(default_factory=set)
    stumbles: Counter[str] = field(default_factory=Counter)

    def reason(self, scope: str) -> str | None:
        return "outage" if scope in self.resting else None

    def cools(self, scope: str) -> float:
        return self.cooling.get(scope, 0.0)

    def stumbled(self, scope: str, seconds: float) -> None:
        self.stumbles[scope] += 1

    def avoid(self, scope: str, seconds: float) -> None:
        self.cooling[scope] = seconds

    def load_of(self, deployment: Deployment) -> "Load":
        headroom = 0.0 if deployment.scope in self.spent else None
        return Load(in_flight=self.busy.get(deployment.scope, 0), headroom=headroom)


@dataclass(frozen=True)
class Load:
    in_flight: int = 0
    latency: float = 0.0
    headroom: float | None = None


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def router(world: World, home: Path) -> Router:
    parsed, loaded = config.parse(CONFIG), settings.load()
    prices = PriceBook({name: section.model_dump() for name, section in parsed.prices.items()})
    return Router(Catalog(parsed, Routes(parsed, loaded), prices, loaded), world, world.load_of)


def claim(route: str = "either", provider: str | None = None, trail: str = "", **more: Any) -> Claim:
    return dataclasses.replace(CLAIM, route=route, provider=provider, trail=trail, **more)


def scopes(router: Router, asked: Claim, calls: int = 40) -> Counter[str]:
    """Whom so many calls went to."""
    found = Counter[str]()
    for _ in range(calls):
        chosen = router.deployment(asked, None)
        assert chosen is not None
        router.took(asked, chosen, 1)
        found[chosen.scope] += 1
    return found


def test_accounts_share_the_part_of_their_provider(router: Router) -> None:
    assert scopes(router, claim()) == {A: 15, B: 5, TWO: 20}


def test_a_slice_of_one_provider_stays_there(router: Router, world: World) -> None:
    assert scopes(router, claim(provider="one")) == {A: 30, B: 10}
    world.resting |= {A, B}
    assert router.deployment(claim(provider="one"), None) is None


def test_a_model_that_was_named_goes_nowhere_else_even_if_it_cools(router: Router, world: World) -> None:
    world.cooling[TWO] = 30.0
    assert scopes(router, claim(route="two/m"), 3) == {TWO: 3}
    assert not router.stumbled(claim(route="two/m"), deployment(router, "two/m")) and not world.stumbles
    assert router.onward(claim(route="two/m", allow_fallback=True), Fallback.GENERAL) is None
    world.resting.add(TWO)
    assert router.deployment(claim(route="two/m"), None) is None


def deployment(router: Router, route: str) -> Deployment:
    found = router.deployment(claim(route=route), None)
    assert found is not None
    return found


def test_others_take_over_from_one_that_cools_and_the_least_bad_goes_on_if_all_do(router: Router, world: World) -> None:
    world.cooling[TWO] = 30.0
    assert TWO not in scopes(router, claim())
    assert router.deployment(claim(provider="two"), None) is None
    world.cooling |= {A: 20.0, B: 10.0}
    assert scopes(router, claim(), 3) == {B: 3}
    assert scopes(router, claim(provider="two"), 3) == {TWO: 3}


def test_a_spent_quota_is_left_alone_while_another_is_not(router: Router, world: World) -> None:
    world.spent |= {A, TWO}
    assert scopes(router, claim(), 5) == {B: 5}
    world.spent.add(B)
    assert scopes(router, claim(), 8) == {A: 3, B: 1, TWO: 4}


def test_least_busy_by_calls_in_flight(router: Router, world: World) -> None:
    world.busy = {TWO: 5, "two/default/n": 4}
    assert scopes(router, claim(route="busy"), 3) == {"two/default/n": 3}


def test_a_probe_goes_to_the_scope_that_rests(router: Router, world: World) -> None:
    world.resting.add(TWO)
    found = router.deployment(claim(), TWO)
    assert found is not None and found.scope == TWO


def test_a_failure_is_told_and_another_can_take_the_line_at_once(router: Router, world: World) -> None:
    two = router.deployment(claim(provider="two"), None)
    assert two is not None
    assert router.stumbled(claim(), two) and world.stumbles == {TWO: 1}
    world.cooling |= {A: 1.0, B: 1.0}
    assert not router.stumbled(claim(), two)
    assert not router.avoid(claim(), two, 9.0) and TWO not in world.cooling
    del world.cooling[A]
    assert router.avoid(claim(), two, 9.0) and world.cooling[TWO] == 9.0


# Fallbacks


def test_only_what_the_alias_lists_and_only_if_the_batch_allows_it(router: Router, world: World) -> None:
    assert router.onward(claim(route="judge"), Fallback.GENERAL) is None
    allowed = claim(route="judge", allow_fallback=True)
    assert router.onward(allowed, Fallback.GENERAL) == "general spare"
    assert router.onward(allowed, Fallback.CONTEXT_WINDOW) == "context_window long"
    assert router.onward(allowed, Fallback.CONTENT_POLICY) is None
    world.resting |= {A, B}
    assert router.onward(allowed, Fallback.GENERAL) == "general two/unpriced"
    world.resting.add("two/default/unpriced")
    assert router.onward(allowed, Fallback.GENERAL) == "general spare"


def test_no_route_twice(router: Router) -> None:
    there = claim(route="judge", trail="context_window long", allow_fallback=True)
    assert router.onward(there, Fallback.GENERAL) == "context_window long\ngeneral spare"
    last = claim(route="judge", trail="context_window long\ngeneral spare\ngeneral two/unpriced", allow_fallback=True)
    assert router.onward(last, Fallback.GENERAL) is None


def test_no_unknown_price_under_a_limit_of_the_cost(router: Router, world: World) -> None:
    world.resting |= {A, B}
    limited = claim(route="judge", allow_fallback=True, is_limited=True)
    assert router.onward(limited, Fallback.GENERAL) == "general spare"
    assert router.onward(limited, Fallback.CONTEXT_WINDOW) is None


def test_the_fallback_serves_at_its_own_price(router: Router) -> None:
    there = claim(route="judge", trail="general spare")
    assert scopes(router, there, 4) == {A: 3, B: 1}
    priced = router.priced(there)
    assert (priced.input_price, priced.output_price) == (3_000_000, 4_000_000)
    assert router.priced(claim(route="judge")).input_price == 1
    assert router.priced(claim(route="judge", trail="general gone")).input_price is None
