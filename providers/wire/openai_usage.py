"""The "usage" of an OpenAI answer. Whatever cannot be believed is unknown: never negative, never guessed."""

import decimal
import typing

from providers import cost as costs
from providers import usage as usages

MAX_TOKENS = 1_000_000_000
_STANDARD_TIERS = (None, "default", "auto", "standard", "on_demand")


def read(data: dict[str, typing.Any]) -> usages.Usage | None:
    """None when absent, of a wrong type, or contradicting itself."""
    try:
        return _believable(data["usage"], data.get("service_tier"))
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def cost(data: dict[str, typing.Any], field: str | None) -> costs.Cost | None:
    """What the provider itself says the call cost, in USD."""
    said = data["usage"].get(field) if field and isinstance(data.get("usage"), dict) else None
    if not isinstance(said, int | float) or isinstance(said, bool) or not 0 <= said < 1_000_000:
        return None
    picousd = (decimal.Decimal(str(said)) * 10**12).to_integral_value(decimal.ROUND_HALF_EVEN)
    return costs.Cost(picousd=int(picousd), source="provider")


def _believable(usage: dict[str, typing.Any], tier: object) -> usages.Usage:
    into, out = _tokens(usage["prompt_tokens"]), _tokens(usage.get("completion_tokens"))
    if into == 0:
        raise ValueError("no request is without tokens")
    # Servers that count reasoning beside the output (xAI, Gemini's bridge) give themselves away by their total.
    if usage.get("total_tokens") not in (None, into + out):
        raise ValueError("the total is not the sum")
    asked, given = usage.get("prompt_tokens_details") or {}, usage.get("completion_tokens_details") or {}
    audio = _tokens(asked.get("audio_tokens")) + _tokens(given.get("audio_tokens"))
    read = usages.Usage(
        input_tokens=into,
        cached_tokens=_tokens(asked.get("cached_tokens")),
        cache_write_tokens=_tokens(asked.get("cache_write_tokens")),
        output_tokens=out,
        reasoning_tokens=_tokens(given.get("reasoning_tokens")),
        billing="audio" if audio else _billing(tier),
    )
    if read.cached_tokens + read.cache_write_tokens > into or read.reasoning_tokens > out:
        raise ValueError("a part is larger than the whole")
    return read


def _tokens(value: object) -> int:
    if value is None:
        return 0
    if type(value) is not int or not 0 <= value <= MAX_TOKENS:
        raise ValueError("no count of tokens")
    return value


def _billing(tier: object) -> str:
    return usages.STANDARD if tier in _STANDARD_TIERS else str(tier)[:40]
