"""Prices in files: a provider folder's prices.toml, or the "prices" of the configuration."""

import collections.abc
import dataclasses
import decimal
import fnmatch
import functools
import tomllib
import typing

from providers import price, registry
from providers import usage as usages


@dataclasses.dataclass(frozen=True, slots=True)
class PriceTable:
    """Prices by model name or fnmatch pattern; an exact name wins over patterns, a longer pattern over a shorter."""

    prices: collections.abc.Mapping[str, price.Price]

    @classmethod
    def read(
        cls, models: collections.abc.Mapping[str, collections.abc.Mapping[str, typing.Any]], source: str
    ) -> "PriceTable":
        """Each model's input, output, cached_input, cache_write, reasoning in USD per million. Raises ValueError."""
        return cls({name: _price(name, rates, source) for name, rates in models.items()})

    def find(self, model: str) -> price.Price | None:
        if model in self.prices:
            return self.prices[model]
        fitting = [pattern for pattern in self.prices if fnmatch.fnmatchcase(model, pattern)]
        return self.prices[max(fitting, key=len)] if fitting else None


@functools.cache
def of_provider(kind: str) -> PriceTable:
    """The dated table in the provider's folder."""
    data = tomllib.loads((registry.FOLDER / kind / "prices.toml").read_text(), parse_float=decimal.Decimal)
    return PriceTable.read(data["models"], f"table:{data['as_of']}")


def _price(name: str, said: collections.abc.Mapping[str, typing.Any], source: str) -> price.Price:
    try:
        rates = price.Rates.of_usd(**{key: decimal.Decimal(str(usd)) for key, usd in said.items() if usd is not None})
    except (TypeError, ValueError, decimal.InvalidOperation):
        want = "input and, where they differ, output, cached_input, cache_write, reasoning in USD per million tokens"
        raise ValueError(f"price of {name}: want {want}") from None
    return price.Price(bands={usages.STANDARD: (price.Band(above=-1, rates=rates),)}, source=source)
