"""From a line's ``model`` to the deployments that may serve it."""

import dataclasses
import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from providers import deployment, registry, secret, spec
from worker import alias_config, config, provider_key, settings
from worker.alias_config import AliasConfig, Strategy, WeightedModel
from worker.provider_key import ProviderKey, Source

# RouteError
# ├── UnknownModel     no provider, alias or known model has this name
# ├── MissingKey       the provider needs a key that is nowhere, or cannot be read
# └── BadAddress       nothing usable says where the provider is


class RouteError(Exception):
    """A line cannot be sent anywhere. The message says what to change."""

    code = "model_not_found"


class UnknownModel(RouteError):
    """No provider, alias or known model has this name."""


class MissingKey(RouteError):
    """The provider needs a key that is nowhere, cannot be read, or cannot be one."""

    code = "missing_api_key"

    def __init__(self, message: str, *, variable: str | None) -> None:
        super().__init__(message)
        self.variable = variable


class BadAddress(RouteError):
    """Nothing usable says where the provider is."""

    code = "bad_base_url"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """What a line asked for (an alias or ``provider/model``) and who may answer it."""

    name: str
    deployments: tuple[deployment.Deployment, ...]
    weights: tuple[float, ...] = (1.0,)
    strategy: Strategy = Strategy.WEIGHTED
    cooldown: float = 30.0
    """Seconds."""
    fallbacks: tuple[str, ...] = ()
    """Every ``provider/model`` that may stand in, of whatever kind."""

    @property
    def providers(self) -> tuple[str, ...]:
        """Each once."""
        return tuple(dict.fromkeys(one.provider for one in self.deployments))

    def weight(self, deployment: deployment.Deployment) -> float:
        """Its share of the load, beside those of the others."""
        return next(
            (weight for one, weight in zip(self.deployments, self.weights, strict=True) if one.name == deployment.name),
            1.0,
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Provider:
    """A provider that can be paid: its kind, its configuration, where it is and whose key it takes."""

    name: str
    spec: spec.ProviderSpec
    config: config.ProviderConfig
    base_url: str | None
    keys: tuple[ProviderKey, ...]
    """The first one counts."""
    missing_variable: str | None
    is_account: bool = False
    """Whether it is one of several accounts, which have no variable of their own."""
    accounts: tuple["Provider", ...] = ()
    """The same provider once for each of its accounts, if several are configured."""

    @property
    def parts(self) -> "tuple[Provider, ...]":
        """One for each account."""
        return self.accounts or (self,)

    def part(self, account: str) -> "Provider | None":
        """That account of it."""
        return next((part for part in self.parts if part.config.account == account), None)

    @property
    def key(self) -> ProviderKey | None:
        return self.keys[0] if self.keys else None

    @property
    def label(self) -> str:
        """Its name, with the account if it has one of several."""
        account = self.config.account
        return self.name if account == "default" else f"{self.name}@{account}"

    @property
    def is_configured(self) -> bool:
        """Whether the configuration names it; others are built in."""
        return bool(self.config.model_fields_set)

    @property
    def is_elsewhere(self) -> bool:
        """Whether calls go to another host than the vendor's own."""
        return self.spec.name != "simulator" and _host(self.base_url) != _host(self.spec.base_url)

    @property
    def address(self) -> str | None:
        """The base URL as it may be shown: without a user, a password or a query."""
        parts = urlsplit(self.base_url or "")
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" if self.base_url else None

    def deployment(self, model: str, *, timeout: float) -> deployment.Deployment:
        """Raises MissingKey or BadAddress."""
        if self.base_url is None:
            raise BadAddress(f"The provider {self.name!r} is not running: only a server that serves it can call it")
        try:
            return deployment.Deployment(
                provider=self.name,
                spec=self.spec,
                model=model,
                account=self.config.account,
                base_url=self.base_url,
                api_key=self._secret(),
                headers=tuple(self.config.headers.items()),
                timeout=self.config.timeout or timeout,
                extra_params=dict(self.config.extra_params) or None,
            )
        except ValueError as error:
            raise BadAddress(str(error)) from None

    @property
    def _where_to_put_it(self) -> str:
        if self.is_account and self.config.api_key is None:
            return "name it under 'api_key' in gristmill.yaml"
        return f"set the environment variable {self.missing_variable}"

    @property
    def _named(self) -> str:
        account = self.config.account
        return self.name if account == "default" else f"{self.name} --account {account}"

    def _secret(self) -> secret.Secret | None:
        if self.missing_variable is not None:
            raise MissingKey(
                f"The provider {self.label!r} needs an API key: {self._where_to_put_it}, "
                f"or run 'gristmill providers set-key {self._named}'",
                variable=self.missing_variable,
            )
        if self.key is not None and self.key.value is None:
            raise MissingKey(f"The key of the provider {self.name!r} cannot be read: {self.key.fault}", variable=None)
        try:
            return secret.Secret(self.key.value) if self.key and self.key.value else None
        except ValueError as error:
            raise MissingKey(f"The key of the provider {self.name!r} is none: {error}", variable=None) from None


NOTHING: provider_key.Stored = {}
MOST_FOUND = 4096
"""Names whose routes are remembered: clients may ask for any."""


class Routes:
    """Resolves model names. The environment and the files that hold keys are read once, here."""

    def __init__(
        self, config: config.Config, settings: settings.Settings, stored: provider_key.Stored = NOTHING
    ) -> None:
        self._config = config
        self._timeout = settings.call_timeout_seconds
        self._found: dict[str, Route] = {}
        self.providers = {provider.name: provider for provider in _providers(config, settings, stored)}

    @property
    def key_files(self) -> frozenset[Path]:
        """The files that keys were looked for in."""
        keys = (key for provider in self.providers.values() for part in provider.parts for key in part.keys)
        return frozenset(Path(key.place) for key in keys if key.source is Source.FILE)

    def resolve(self, model: str) -> Route:
        """The route of a line's ``model``. Raises RouteError."""
        route = self._found.get(model)
        if route is None:
            route = self._resolve(model)
            if len(self._found) >= MOST_FOUND:
                self._found.clear()
            self._found[model] = route
        return route

    def names(self) -> tuple[str, ...]:
        """Every name that can be listed: the aliases, and the models that have a configured price."""
        return tuple(dict.fromkeys((*self._config.models, *self._config.prices)))

    def notes(self) -> Iterator[str]:
        """What an operator should see at start: addresses that are not the vendor's, keys written in the file."""
        for provider in self.providers.values():
            if provider.is_elsewhere:
                yield f"{provider.name} is called at {provider.address}"
            for part in provider.parts:
                yield from _key_notes(part)

    def _resolve(self, model: str) -> Route:
        provider, slash, rest = model.partition("/")
        if slash and rest and provider in self.providers:
            return self._route(model, _alone(model))
        if model in self._config.models:
            return self._route(model, self._config.models[model])
        owner = self._owner(model) if model and not slash else None
        if owner is None:
            raise self._unknown(model)
        return self._route(f"{owner}/{model}", _alone(f"{owner}/{model}"))

    def _route(self, name: str, alias: AliasConfig) -> Route:
        """Each deployment once for each account of its provider; they share its weight."""
        found = []
        for entry in alias.deployments:
            provider, _, model = entry.model.partition("/")
            parts = self.providers[provider].parts
            weights = [self.providers[provider].config.weight_of(part.config.account) for part in parts]
            for part, weight in zip(parts, weights, strict=True):
                found.append((part.deployment(model, timeout=self._timeout), entry.weight * weight / sum(weights)))
        deployments, shares = zip(*found, strict=True)
        return Route(
            name=name,
            deployments=deployments,
            weights=shares,
            strategy=alias.strategy,
            cooldown=alias.cooldown,
            fallbacks=tuple(alias_config.stand_ins(self._config.models, alias)),
        )

    def _owner(self, model: str) -> str | None:
        """The provider of a bare name. OPENAI_BASE_URL elsewhere means: my models, whatever their names."""
        kind = registry.find_model(model)
        if kind is None:
            return "openai" if self.providers["openai"].is_elsewhere else None
        configured = [name for name in self._config.providers if self.providers[name].spec.name == kind]
        return configured[0] if len(configured) == 1 else kind

    def _unknown(self, model: str) -> UnknownModel:
        provider, slash, rest = model.partition("/")
        if slash and rest:
            near = _nearest(provider, self.providers)
            hint = f"did you mean '{near}/{rest}'?" if near else f"providers are {', '.join(self.providers)}"
            return UnknownModel(f"The model {model!r} names no known provider or alias; {hint}")
        near = _nearest(model, self._config.models)
        hint = f"did you mean {near!r}?" if near else "write it as <provider>/<model>, such as openai/gpt-4o-mini"
        return UnknownModel(f"The model {model!r} is neither an alias nor a known model; {hint}")


def _alone(model: str) -> AliasConfig:
    """Whoever names ``provider/model`` gets nothing else."""
    return AliasConfig(deployments=(WeightedModel(model=model),))


def _key_notes(provider: Provider) -> Iterator[str]:
    if provider.config.base_url and provider.is_elsewhere and not provider.key and provider.spec.key_env:
        yield f"{provider.label} gets no key there; api_key: ${{{provider.spec.key_env[0]}}} would send one"
    for key in provider.keys:
        if key.fault is not None:
            yield f"the key of {provider.label} cannot be read: {key.fault}"
        if key.is_open_to_others:
            yield f"other users may read {key.place}, the key of {provider.label}: chmod 600 {key.place}"
    if provider.config.has_literal_key:
        yield f"the key of {provider.label} stands in the configuration file; ${{VARIABLE}} would keep it out"


def _providers(
    configuration: config.Config, settings: settings.Settings, stored: provider_key.Stored
) -> Iterator[Provider]:
    """The configured ones, then every kind that can be reached without being configured."""
    for name, section in configuration.providers.items():
        yield _provider(name, section, settings, stored)
    for kind in registry.names():
        if kind not in configuration.providers and kind != "openai_compatible":
            yield _provider(kind, config.ProviderConfig(), settings, stored)


def _provider(
    name: str,
    section: config.ProviderConfig,
    settings: settings.Settings,
    stored: provider_key.Stored,
    *,
    is_account: bool = False,
) -> Provider:
    kind = registry.get(section.kind_of(name) or "openai_compatible")
    base_url, named_by_environment = _address(kind, section, settings)
    at_vendors = _host(base_url) == _host(kind.base_url)
    auth = section.auth or kind.auth
    # A key that the file does not name goes to the vendor, or where its owner's environment says: never elsewhere.
    wants_environment = (at_vendors or named_by_environment) and not is_account
    keys = provider_key.find(name, kind, section, stored, wants_environment=wants_environment)
    missing = None if keys else section.missing_variable
    if not keys and missing is None and kind.needs_key and at_vendors and auth != "none":
        missing = kind.key_env[0]
    accounts = tuple(
        _provider(name, section.of_account(account), settings, stored, is_account=True) for account in section.accounts
    )
    if accounts:
        keys = accounts[0].keys
        missing = next((part.missing_variable for part in accounts if part.missing_variable), None)
    return Provider(
        name=name,
        spec=dataclasses.replace(kind, auth=auth),
        config=section,
        base_url=base_url,
        keys=keys if auth != "none" else (),
        missing_variable=missing if auth != "none" else None,
        is_account=is_account,
        accounts=accounts,
    )


def _address(
    kind: spec.ProviderSpec, section: config.ProviderConfig, settings: settings.Settings
) -> tuple[str | None, bool]:
    """The base URL, and whether the environment named it."""
    if section.base_url is not None:
        return section.base_url, False
    if kind.name == "simulator":
        return settings.simulator_url, False
    named = _first_set((kind.base_url_env,)) if kind.base_url_env else None
    return (named.rstrip("/"), True) if named else (kind.base_url, False)


def _first_set(variables: Iterable[str]) -> str | None:
    return next(filter(None, map(settings.environment_value, variables)), None)


def _host(url: str | None) -> str | None:
    return urlsplit(url).hostname if url else None


def _nearest(name: str, known: Iterable[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name, list(known), n=1)), None)
