"""What an answer's headers say of a quota: its limit, what is left of it, and when it is full again.

A vendor's dialect is a table of header names. Its clocks need none: every way of writing a time is told by its look
(OpenAI ``6m0s`` and ``12ms``, Azure and Cerebras bare seconds, Anthropic RFC 3339, Cohere unix seconds, OpenRouter unix
milliseconds).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime

REQUESTS, TOKENS = "requests", "tokens"
INPUT_TOKENS, OUTPUT_TOKENS = "input_tokens", "output_tokens"
REQUESTS_DAY, TOKENS_DAY = "requests_day", "tokens_day"
QUOTAS = (REQUESTS, TOKENS, INPUT_TOKENS, OUTPUT_TOKENS, REQUESTS_DAY, TOKENS_DAY)
PERIOD_SECONDS = {quota: 86_400.0 if quota in (REQUESTS_DAY, TOKENS_DAY) else 60.0 for quota in QUOTAS}

LONGEST_RESET = 86_400.0 * 31
_UNIX_SECONDS, _UNIX_MILLISECONDS = 1e9, 1e12
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|d|h|m|s)")
_UNITS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


@dataclass(frozen=True, slots=True)
class QuotaHeaders:
    """The names under which a vendor tells one quota, in lower case."""

    quota: str
    limit: str
    remaining: str
    reset: str | None = None


OPENAI = tuple(
    QuotaHeaders(quota, f"x-ratelimit-limit-{quota}", f"x-ratelimit-remaining-{quota}", f"x-ratelimit-reset-{quota}")
    for quota in (REQUESTS, TOKENS)
)


@dataclass(frozen=True, slots=True)
class QuotaState:
    """One quota as the provider counts it; ``reset``: seconds until it is full, None if it did not say."""

    limit: float
    remaining: float
    reset: float | None


def read(headers: Mapping[str, str], dialect: tuple[QuotaHeaders, ...]) -> dict[str, QuotaState]:
    """The quotas that these headers tell. Nonsense and unknown (-1) values tell nothing.

    A reset that is a moment and not a time span counts from the answer's own ``date``: our clock may be wrong.
    """
    found = {}
    now = _date(headers.get("date", ""))
    for row in dialect:
        limit, remaining = _number(headers.get(row.limit)), _number(headers.get(row.remaining))
        if limit is None or remaining is None or limit <= 0:
            continue
        reset = None if row.reset is None else reset_seconds(headers.get(row.reset, ""), now=now)
        found[row.quota] = QuotaState(limit, min(limit, remaining), reset)
    return found


def reset_seconds(text: str, *, now: float | None) -> float | None:
    """Seconds from ``now`` (unix seconds) on, in any vendor's way of writing; None if it is none of them."""
    text = text.strip().lower()
    number = _number(text)
    moment = None
    if number is None:
        seconds = _span(text)
        moment = _moment(text) if seconds is None else None
    elif number < _UNIX_SECONDS:
        seconds = number
    else:
        seconds, moment = None, number / 1000 if number >= _UNIX_MILLISECONDS else number
    if moment is not None and now is not None:
        seconds = moment - now
    return None if seconds is None else min(max(0.0, seconds), LONGEST_RESET)


def _number(text: str | None) -> float | None:
    """A plain decimal that is not negative."""
    if text is None or re.fullmatch(r"\d{1,16}(\.\d{1,9})?", text.strip()) is None:
        return None
    return float(text)


def _span(text: str) -> float | None:
    parts = _SPAN.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _moment(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text.upper()).timestamp()
    except ValueError:
        return None


def _date(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except ValueError:
        return None
