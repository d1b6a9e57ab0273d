"""Exact request, token, day and concurrency limits of one API key and model."""

import collections
import dataclasses
import math
from typing import Protocol

from providers.simulator import options

# Sums of floats drift by far less than this; no request or token is smaller.
GRAIN = 1e-6


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Gauge:
    """What the rate headers tell: limit a minute, whole units left, seconds until everything is back."""

    limit: int
    remaining: int
    reset: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Denial:
    """Why a call was refused; `wait` is None where waiting never helps."""

    reason: str  # "requests" | "tokens" | "day" | "concurrency" | "size"
    limit: int
    used: int
    requested: int
    wait: float | None


class Meter(Protocol):
    """Counts one dimension; `now` is any clock in seconds that never goes back."""

    capacity: float

    def wait(self, amount: float, now: float) -> float: ...

    def take(self, amount: float, now: float) -> None: ...

    def level(self, now: float) -> float: ...

    def reset(self, now: float) -> float: ...

    def resize(self, capacity: float, span: float) -> None: ...


class Bucket:
    """Refills continuously: `capacity` units in `span` seconds; starts full."""

    def __init__(self, capacity: float, span: float, now: float) -> None:
        self.capacity, self.rate = capacity, capacity / span
        self._level, self._at = capacity, now

    def level(self, now: float) -> float:
        if now > self._at:
            self._level = min(self.capacity, self._level + (now - self._at) * self.rate)
            self._at = now
        return self._level

    def wait(self, amount: float, now: float) -> float:
        missing = amount - self.level(now)
        return missing / self.rate if missing > GRAIN else 0.0

    def take(self, amount: float, now: float) -> None:
        self._level = max(0.0, self.level(now) - amount)

    def reset(self, now: float) -> float:
        return (self.capacity - self.level(now)) / self.rate

    def resize(self, capacity: float, span: float) -> None:
        self.capacity, self.rate = capacity, capacity / span
        self._level = min(self._level, capacity)


class Window:
    """`capacity` units in each window of `span` seconds, counted from the first request."""

    def __init__(self, capacity: float, span: float, now: float) -> None:
        self.capacity, self.span = capacity, span
        self._used, self._start = 0.0, now

    def level(self, now: float) -> float:
        if now >= self._start + self.span:
            self._used, self._start = 0.0, now
        return max(0.0, self.capacity - self._used)

    def wait(self, amount: float, now: float) -> float:
        return self._start + self.span - now if amount - self.level(now) > GRAIN else 0.0

    def take(self, amount: float, now: float) -> None:
        self.level(now)
        self._used += amount

    def reset(self, now: float) -> float:
        return self._start + self.span - now if self.level(now) < self.capacity else 0.0

    def resize(self, capacity: float, span: float) -> None:
        self.capacity, self.span = capacity, span


class Sliding:
    """Never more than `capacity` units in any `span` seconds."""

    def __init__(self, capacity: float, span: float, now: float) -> None:
        self.capacity, self.span = capacity, span
        self._taken: collections.deque[tuple[float, float]] = collections.deque()
        self._used = 0.0

    def level(self, now: float) -> float:
        while self._taken and self._taken[0][0] <= now - self.span:
            self._used -= self._taken.popleft()[1]
        return max(0.0, self.capacity - self._used)

    def wait(self, amount: float, now: float) -> float:
        missing = amount - self.level(now)
        for at, taken in self._taken:
            if missing <= GRAIN:
                break
            missing -= taken
            if missing <= GRAIN:
                return at + self.span - now
        return 0.0

    def take(self, amount: float, now: float) -> None:
        self._taken.append((now, amount))
        self._used += amount

    def reset(self, now: float) -> float:
        return self._taken[-1][0] + self.span - now if self.level(now) < self.capacity else 0.0

    def resize(self, capacity: float, span: float) -> None:
        self.capacity, self.span = capacity, span


MODES: dict[str, type[Bucket] | type[Window] | type[Sliding]] = {"bucket": Bucket, "window": Window, "sliding": Sliding}


class Quota:
    """All limits of one scope; `admit` takes from every dimension or from none."""

    def __init__(self) -> None:
        self.in_flight = 0
        self._settings: options.Settings | None = None
        self._meters: dict[str, Meter] = {}

    def admit(self, tokens: int, settings: options.Settings, now: float) -> Denial | None:
        if settings is not self._settings:
            self._apply(settings, now)
        if settings.concurrency is not None and self.in_flight >= settings.concurrency:
            return Denial(
                reason="concurrency", limit=settings.concurrency, used=self.in_flight, requested=1, wait=settings.nap
            )
        denial = self._deny(tokens, now)
        if denial is None:
            for name, meter in self._meters.items():
                meter.take(tokens if name == "tokens" else 1, now)
            self.in_flight += 1
        elif settings.count_rejected and "requests" in self._meters:
            self._meters["requests"].take(1, now)
        return denial

    def release(self) -> None:
        self.in_flight -= 1

    def gauges(self, now: float) -> dict[str, Gauge]:
        """By "requests" and "tokens"; a dimension without a limit is left out."""
        found = {}
        for name, meter in self._meters.items():
            if name != "day":
                found[name] = Gauge(
                    limit=self._limit(name), remaining=int(meter.level(now) + GRAIN), reset=max(0.0, meter.reset(now))
                )
        return found

    def _deny(self, tokens: int, now: float) -> Denial | None:
        worst: Denial | None = None
        for name, meter in self._meters.items():
            amount = tokens if name == "tokens" else 1
            limit = self._limit(name)
            if amount > meter.capacity + GRAIN:
                return Denial(reason="size", limit=limit, used=0, requested=amount, wait=None)
            wait = meter.wait(amount, now)
            if wait > 0.0 and (worst is None or worst.wait is None or wait > worst.wait):
                used = math.ceil(meter.capacity - meter.level(now) - GRAIN)
                worst = Denial(reason=name, limit=limit, used=used, requested=amount, wait=wait)
        return worst

    def _limit(self, name: str) -> int:
        settings = self._settings
        assert settings is not None
        limit = {"requests": settings.rpm, "tokens": settings.tpm, "day": settings.rpd}[name]
        return int(limit or 0)

    def _apply(self, settings: options.Settings, now: float) -> None:
        """New figures keep what was already used; another mode starts afresh."""
        same_mode = self._settings is not None and self._settings.mode == settings.mode
        span = settings.burst if settings.mode == "bucket" else settings.window
        wanted = {"requests": (settings.rpm, span, 60.0), "tokens": (settings.tpm, span, 60.0)}
        wanted["day"] = (settings.rpd, settings.day, settings.day)
        meters: dict[str, Meter] = {}
        for name, (limit, seconds, per) in wanted.items():
            if limit is None:
                continue
            capacity = max(1.0, limit * seconds / per)
            old = self._meters.get(name)
            if old is not None and (same_mode or name == "day"):
                old.resize(capacity, capacity * per / limit)
                meters[name] = old
            else:
                kind = Window if name == "day" else MODES[settings.mode]
                meters[name] = kind(capacity, capacity * per / limit, now)
        self._settings, self._meters = settings, meters
