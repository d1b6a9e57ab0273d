"""What a model's tokens cost."""

import collections.abc
import dataclasses
import decimal

from providers import cost as costs
from providers import usage as usages

PER_MILLION = 1_000_000


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """Pico-USD for a million tokens: a price list's "USD per million" times 1e12, so that it stays a whole number."""

    input: int
    output: int
    cached: int  # equal to input where the vendor gives no discount
    cache_write: int
    reasoning: int
    output_is_known: bool = True  # False: the price list names no output, so a call with output tokens cannot be priced

    @classmethod
    def of_usd(
        cls,
        *,
        input: decimal.Decimal,
        output: decimal.Decimal | None = None,
        cached_input: decimal.Decimal | None = None,
        cache_write: decimal.Decimal | None = None,
        reasoning: decimal.Decimal | None = None,
    ) -> "Rates":
        """From USD per million tokens. What is left out costs as much as what it is a part of."""
        given_output = decimal.Decimal(0) if output is None else output
        return cls(
            input=_pico(input),
            output=_pico(given_output),
            cached=_pico(input if cached_input is None else cached_input),
            cache_write=_pico(input if cache_write is None else cache_write),
            reasoning=_pico(given_output if reasoning is None else reasoning),
            output_is_known=output is not None,
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Band:
    """Rates for calls whose input is longer than `above` tokens: they apply to all tokens of such a call."""

    above: int  # -1: always
    rates: Rates


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Price:
    """The rates of one model at one time, by billing ("standard", "flex", ...), bands with the highest first."""

    bands: collections.abc.Mapping[str, tuple[Band, ...]]
    source: str

    def cost(self, usage: usages.Usage) -> costs.Cost | None:
        """Exact to the last token, rounded half up to a whole pico-USD. None where a rate is not known."""
        rates = self.rates(usage.input_tokens, usage.billing)
        if rates is None or (usage.output_tokens and not rates.output_is_known):
            return None
        plain_input = usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens
        scaled = (
            plain_input * rates.input
            + usage.cached_tokens * rates.cached
            + usage.cache_write_tokens * rates.cache_write
            + (usage.output_tokens - usage.reasoning_tokens) * rates.output
            + usage.reasoning_tokens * rates.reasoning
        )
        return costs.Cost(picousd=(scaled + PER_MILLION // 2) // PER_MILLION, source=self.source)

    def rates(self, input_tokens: int, billing: str = usages.STANDARD) -> Rates | None:
        """The rates for a call with so many input tokens; for estimates before a run."""
        bands = self.bands.get(billing, ())
        return next((band.rates for band in bands if input_tokens > band.above), None)


def _pico(usd: decimal.Decimal) -> int:
    if not usd.is_finite() or not 0 <= usd < PER_MILLION:
        raise ValueError("a price must be a number of USD per million tokens, 0 or more")
    return int((usd * 10**12).to_integral_value(decimal.ROUND_HALF_UP))
