"""What ``gristmill providers list-keys`` shows: where keys are, which one is used, never a key."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from api.cli import columns
from worker.provider_key import ProviderKey, Source
from worker.routes import Provider
from worker.store.provider_keys import Entry

HEAD = ("provider", "account", "from", "key", "set", "used")

Row = tuple[str, ...]


def table(providers: Mapping[str, Provider], stored: Sequence[Entry]) -> str:
    parts = [part for provider in providers.values() for part in provider.parts]
    rows = [_elsewhere(part, key) for part in parts for key in _not_stored(part)]
    return columns.table(HEAD, sorted(rows + [_stored(providers, entry) for entry in stored]))


def _not_stored(provider: Provider) -> Iterator[ProviderKey]:
    return (key for key in provider.keys if key.source is not Source.DATABASE)


def _elsewhere(provider: Provider, key: ProviderKey) -> Row:
    return provider.name, provider.config.account, key.where, key.hint, "-", _used(provider, key)


def _stored(providers: Mapping[str, Provider], entry: Entry) -> Row:
    moment = f"{datetime.fromtimestamp(entry.changed_at, UTC):%Y-%m-%d %H:%M} UTC"
    used = _used_of_stored(providers.get(entry.provider), entry)
    return entry.provider, entry.account, str(Source.DATABASE), entry.hint, moment, used


def _used_of_stored(provider: Provider | None, entry: Entry) -> str:
    part = None if provider is None else provider.part(entry.account)
    if part is None:
        return "no: not configured"
    key = next((key for key in part.keys if key.source is Source.DATABASE), None)
    return "no: auth is none" if key is None else _used(part, key)


def _used(provider: Provider, key: ProviderKey) -> str:
    if key.fault is not None:
        return f"no: {key.fault}"
    first = provider.keys[0]
    return "yes" if key is first else f"no: hidden by {first.where}"
