"""Which price applies: the configuration's, else the provider folder's, else genai-prices', else none is known."""

import collections.abc
import datetime
import typing

from providers import genai, price_table, registry
from providers import price as prices

_MAX_CACHED = 4096


class PriceBook:
    """Prices by provider and model. `config_prices` is keyed "provider/model", patterns allowed, in USD per million."""

    def __init__(
        self, config_prices: collections.abc.Mapping[str, collections.abc.Mapping[str, typing.Any]] | None = None
    ) -> None:
        self._config = price_table.PriceTable.read(config_prices or {}, "config")
        self._found: dict[tuple[str, str, str, int], prices.Price | None] = {}

    def price(
        self, kind: str, model: str, *, provider: str | None = None, at: datetime.date | None = None
    ) -> prices.Price | None:
        """The price at a date, now by default. `provider` is the configured name where it differs from the kind.

        Resolved once a minute for each model, because some vendors' prices change with the time of day.
        """
        moment = _moment(at)
        key = (kind, provider or kind, model, int(moment.timestamp() // 60))
        if key not in self._found:
            if len(self._found) >= _MAX_CACHED:
                self._found.clear()
            self._found[key] = self._resolve(kind, provider or kind, model, moment)
        return self._found[key]

    def _resolve(self, kind: str, provider: str, model: str, moment: datetime.datetime) -> prices.Price | None:
        found = self._config.find(f"{provider}/{model}") or price_table.of_provider(kind).find(model)
        known_as = registry.get(kind).genai_prices
        return found or (genai.find(known_as, model, moment) if known_as else None)


def _moment(at: datetime.date | None) -> datetime.datetime:
    if at is None:
        return datetime.datetime.now(datetime.UTC)
    if isinstance(at, datetime.datetime):
        return at
    return datetime.datetime(at.year, at.month, at.day, tzinfo=datetime.UTC)
