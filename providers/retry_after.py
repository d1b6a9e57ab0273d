"""How long a provider asks to wait."""

import collections.abc
import datetime
import email.utils
import re

MAX_WAIT = 86_400.0  # seconds; a longer or absurd wish is cut to a day, a negative one is 0

_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?", re.ASCII)


def seconds(headers: collections.abc.Mapping[str, str], now: datetime.datetime | None = None) -> float | None:
    """From retry-after-ms, else Retry-After in seconds or as an HTTP date. None when absent or unreadable.

    A date is measured from the answer's own Date header if it has one: clocks differ.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return clamp(milliseconds / 1000)
    value = headers.get("retry-after")
    wait = _number(value)
    return clamp(wait) if wait is not None else _until(value, _date(headers.get("date")) or now)


def clamp(wait: float) -> float:
    return min(max(wait, 0.0), MAX_WAIT)


def _number(text: str | None) -> float | None:
    return float(text) if text and _NUMBER.fullmatch(text := text.strip()) else None


def _until(text: str | None, now: datetime.datetime | None) -> float | None:
    moment = _date(text)
    if moment is None:
        return None
    return clamp((moment - (now or datetime.datetime.now(datetime.UTC))).total_seconds())


def _date(text: str | None) -> datetime.datetime | None:
    try:
        moment = email.utils.parsedate_to_datetime(text or "")
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
