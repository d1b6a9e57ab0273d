"""Prices from the genai-prices package, in our own exact form."""

import datetime
import decimal
import functools
import typing

from providers import price
from providers import usage as usages

Fields = dict[str, typing.Any]

# Their names of what we bill by. Any other price of a model than these and the harmless ones makes it unknown to us.
_NAMES = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cached_input",
    "cache_write_mtok": "cache_write",
    "output_reasoning_mtok": "reasoning",
}
# Of things that a plain call does not use, or that make its usage "audio".
_HARMLESS = (
    "_searches_kcount",
    "_image_mtok",
    "_audio_mtok",
    "_video_mtok",
    "_image_read_mtok",
    "_audio_read_mtok",
    "_1h_mtok",
)


def find(provider_id: str, model: str, at: datetime.datetime) -> price.Price | None:
    """Takes about 0.6 CPU-seconds the first time (the package is large), then about 0.1 ms: keep the answer."""
    snapshot = _snapshot()
    try:
        _, info = snapshot.find_provider_model(model, None, provider_id, None)
    except LookupError:
        return None
    standard = _bands(vars(info.get_prices(at)))
    if standard is None:
        return None
    bands = {usages.STANDARD: standard}
    for variant in info.price_variants or ():
        special = _bands(vars(info.get_prices(at, variant.when)))
        # A variant that changes nothing is not yet in force: then the price is unknown, not standard.
        if len(variant.when) == 1 and special and special != standard:
            bands.setdefault(next(iter(variant.when.values())), special)
    return price.Price(bands=bands, source=_source())


def _bands(prices: Fields) -> tuple[price.Band, ...] | None:
    """One band for each length of input from which some price differs; None where we cannot bill by these prices."""
    known = {_NAMES[name]: value for name, value in prices.items() if name in _NAMES and value is not None}
    rest = [name for name, value in prices.items() if name not in _NAMES and value is not None]
    if "input" not in known or not all(name.endswith(_HARMLESS) for name in rest):
        return None
    starts = {tier.start for value in known.values() for tier in getattr(value, "tiers", ())}
    return tuple(price.Band(above=above, rates=_rates(known, above)) for above in sorted(starts | {-1}, reverse=True))


def _rates(known: Fields, above: int) -> price.Rates:
    return price.Rates.of_usd(**{name: _at(value, above) for name, value in known.items()})


def _at(value: typing.Any, above: int) -> decimal.Decimal:
    if isinstance(value, decimal.Decimal):
        return value
    reached = [tier.price for tier in value.tiers if tier.start <= above]
    found: decimal.Decimal = reached[-1] if reached else value.base
    return found


@functools.cache
def _snapshot() -> typing.Any:
    from genai_prices import data_snapshot  # 0.6 CPU-seconds: only where a price is asked for

    return data_snapshot.get_snapshot()


@functools.cache
def _source() -> str:
    import genai_prices

    return f"genai-prices:{genai_prices.__version__}"
