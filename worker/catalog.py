"""What the configuration says of a route: who serves it, within which limits, at which price."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from providers import rate_limits
from providers.cost import Cost
from providers.deployment import Deployment
from providers.price import PER_MILLION, Price, Rates
from providers.pricing import PriceBook
from providers.rate_limits import (
    INPUT_TOKENS,
    OUTPUT_TOKENS,
    PERIOD_SECONDS,
    REQUESTS,
    REQUESTS_DAY,
    TOKENS,
    TOKENS_DAY,
    QuotaHeaders,
)
from providers.usage import Usage
from worker.alias_config import Fallback, Strategy
from worker.config import Config
from worker.routes import Route, RouteError, Routes
from worker.routing import ladder
from worker.settings import Settings

SLICE_JOBS = 200
SHARED_SLICES = 50
"""Into so many slices lines are cut that several providers share: a share is then right within 2 %."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScopeLimits:
    """What a scope may take, as configured; the provider's own words correct it (worker/limiter)."""

    told: Mapping[str, float] = field(default_factory=dict)
    """Quotas (providers/rate_limits.py) that somebody configured, a minute or a day."""
    known: Mapping[str, float] = field(default_factory=dict)
    """Quotas learned earlier."""
    concurrency: int | None = None
    share: float = 1.0
    """The part of every limit that may be used."""
    dialect: tuple[QuotaHeaders, ...] = rate_limits.OPENAI

    @property
    def requests_per_minute(self) -> float | None:
        """As far as is known, the share taken off."""
        limits = [limits[REQUESTS] for limits in (self.told, self.known) if REQUESTS in limits]
        return min(limits) * self.share if limits else None

    @property
    def per_second(self) -> dict[str, float]:
        """What each quota of a minute grants as far as is known, the share taken off."""
        least = {quota: min(self.told.get(quota, limit), limit) for quota, limit in {**self.told, **self.known}.items()}
        minutes = {quota: limit for quota, limit in least.items() if PERIOD_SECONDS[quota] == PERIOD_SECONDS[REQUESTS]}
        return {quota: limit * self.share / PERIOD_SECONDS[quota] for quota, limit in minutes.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class NotedQuotas:
    """What the database knows of scopes: shares that were set while everything ran, and limits that were learned."""

    shares: Mapping[str, float] = field(default_factory=dict)
    learned: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Edition:
    config: Config
    routes: Routes
    prices: PriceBook
    noted: NotedQuotas


def price_book(config: Config) -> PriceBook:
    return PriceBook({name: section.model_dump() for name, section in config.prices.items()})


class Catalog:
    """Routes with limits and prices. Everybody asks it anew, so that ``replace`` changes them for the whole process."""

    def __init__(self, config: Config, routes: Routes, prices: PriceBook, settings: Settings) -> None:
        self._edition = _Edition(config, routes, prices, NotedQuotas())
        self._settings = settings

    def replace(self, *, routes: Routes, config: Config | None = None, prices: PriceBook | None = None) -> None:
        """From now on these count, all at once. Calls in flight keep the deployment that they have."""
        now = self._edition
        self._edition = _Edition(config or now.config, routes, prices or now.prices, now.noted)

    def note(self, quotas: NotedQuotas) -> None:
        """From now on these shares and learned limits count."""
        self._edition = replace(self._edition, noted=quotas)

    @property
    def config(self) -> Config:
        return self._edition.config

    @property
    def routes(self) -> Routes:
        return self._edition.routes

    @property
    def prices(self) -> PriceBook:
        return self._edition.prices

    def names(self) -> tuple[str, ...]:
        """Every name that can be listed."""
        return self.routes.names()

    def serves(self, model: str, deployment: Deployment) -> bool:
        """Whether a new call of the model could go there, with this key."""
        try:
            return deployment in self.resolve(model).deployments
        except RouteError:
            return False

    def resolve(self, model: str) -> Route:
        """Raises RouteError."""
        return self.routes.resolve(model)

    def scopes(self, model: str) -> frozenset[str]:
        """Whose quota a route may spend. Raises RouteError for one that leads nowhere any more."""
        return frozenset(deployment.scope for deployment in self.resolve(model).deployments)

    def limits(self, deployment: Deployment) -> ScopeLimits:
        return self._limits(deployment.provider, deployment.scope)

    def limits_of(self, scope: str) -> ScopeLimits | None:
        """None if its provider is not configured, or not any more."""
        provider = scope.partition("/")[0]
        return self._limits(provider, scope) if provider in self.routes.providers else None

    def _limits(self, provider: str, scope: str) -> ScopeLimits:
        section, spec = self.routes.providers[provider].config, self.routes.providers[provider].spec
        section = section.of_account(scope.split("/")[1])
        noted = self._edition.noted
        told = {
            REQUESTS: section.rpm or spec.requests_per_minute,
            TOKENS: section.tpm or spec.tokens_per_minute,
            INPUT_TOKENS: section.input_tpm,
            OUTPUT_TOKENS: section.output_tpm,
            REQUESTS_DAY: section.rpd,
            TOKENS_DAY: section.tpd,
        }
        return ScopeLimits(
            told={quota: limit for quota, limit in told.items() if limit},
            known=noted.learned.get(scope, {}),
            concurrency=section.concurrency or spec.concurrency,
            share=noted.shares.get(scope, section.share),
            dialect=spec.quota_headers,
        )

    def max_retries(self, deployment: Deployment) -> int:
        configured = self.routes.providers[deployment.provider].config.max_retries
        return self._settings.max_retries if configured is None else configured

    def slice_jobs(self, model: str, lines: int | None = None) -> int:
        """At most 200 lines, or about one minute of the widest deployment's requests.

        Of a few ``lines`` for several providers less, so that each can be given its share.
        """
        route = self.resolve(model)
        limits = [self.limits(deployment).requests_per_minute for deployment in route.deployments]
        known = [limit for limit in limits if limit is not None]
        most = SLICE_JOBS if len(known) < len(limits) else max(1, min(SLICE_JOBS, math.floor(max(known))))
        if lines is None or len(route.providers) == 1:
            return most
        return max(1, min(most, math.ceil(lines / SHARED_SLICES)))

    def token_prices(self, model: str) -> tuple[int | None, int | None]:
        """Pico-USD of an input and an output token at the dearest deployment; None if any of them is unknown."""
        rates = [self._rates(deployment) for deployment in self.resolve(model).deployments]
        known = [rate for rate in rates if rate is not None]
        if len(known) < len(rates):
            return None, None
        return max(-(-rate.input // PER_MILLION) for rate in known), max(
            -(-rate.output // PER_MILLION) for rate in known
        )

    def price_of(self, deployment: Deployment) -> int | None:
        """Pico-USD of a million input and as many output tokens, to compare."""
        rates = self._rates(deployment)
        return None if rates is None else rates.input + rates.output

    def uses(self, strategy: Strategy) -> bool:
        """Whether any alias does."""
        return any(alias.strategy is strategy for alias in self.config.models.values())

    def rungs(self, model: str, trail: str, kind: Fallback) -> Iterator[str]:
        """Where a line that asked for the model may go next (worker/routing/ladder.py)."""
        return ladder.rungs(self.config.models, model, trail, kind)

    def minds_filters(self, model: str) -> bool:
        """Whether an answer that a filter has cut counts as refused."""
        alias = self.config.models.get(model)
        return alias is not None and alias.fallbacks.filtered_answers

    def cost(self, deployment: Deployment, usage: Usage | None) -> Cost | None:
        """What a call cost by its usage; None if the usage or the price is unknown."""
        price = self._price(deployment)
        return None if price is None or usage is None else price.cost(usage)

    def _price(self, deployment: Deployment) -> Price | None:
        return self.prices.price(deployment.spec.name, deployment.model, provider=deployment.provider)

    def _rates(self, deployment: Deployment) -> Rates | None:
        price = self._price(deployment)
        return None if price is None else price.rates(0)
