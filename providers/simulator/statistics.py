"""What happened to the simulator, so that a test can audit its client."""

import collections
import dataclasses
import time
from typing import Any

from providers.simulator import answers


@dataclasses.dataclass(slots=True)
class Nonce:
    """One request as its sender means it, over all its calls."""

    calls: int = 0  # passed the limits
    answered: int = 0  # got a whole answer
    failed: int = 0  # the simulator failed the call on purpose
    gone: int = 0  # the client left before its answer
    rejected: int = 0
    told_until: float = 0.0


@dataclasses.dataclass(slots=True)
class Tally:
    """Counts of all calls, or of one key's."""

    arrived: int = 0
    accepted: int = 0
    answered: int = 0
    gone: int = 0
    in_flight: int = 0
    max_in_flight: int = 0
    input_tokens: int = 0  # of the answered calls, as the rest
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    rejected: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    injected: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    models: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

    def report(self) -> dict[str, Any]:
        found = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: dict(value) if isinstance(value, collections.Counter) else value for name, value in found.items()}

    def enter(self) -> None:
        self.accepted += 1
        self.in_flight += 1
        if self.in_flight > self.max_in_flight:
            self.max_in_flight = self.in_flight


# A client's timer may wake this many seconds early without being impatient.
EARLY = 0.002


class Statistics:
    """Every method is one thing that happened to a call; `key` and `nonce` say to which."""

    def __init__(self) -> None:
        self.total = Tally()
        self.keys: dict[str, Tally] = {}
        self.nonces: dict[str, Nonce] = {}
        self.tags: collections.Counter[str] = collections.Counter()
        self.early_retries = 0
        self.calls_after_answer = 0
        self.first_at: float | None = None
        self.last_at = 0.0

    def arrived(self, key: str) -> Tally:
        if self.first_at is None:
            self.first_at = time.monotonic()
        tally = self.keys.get(key)
        if tally is None:
            tally = self.keys[key] = Tally()
        tally.arrived += 1
        self.total.arrived += 1
        return tally

    def came(self, name: str) -> Nonce:
        """A call whose nonce is known; judged before anything is decided about it."""
        nonce = self.nonces.get(name)
        if nonce is None:
            nonce = self.nonces[name] = Nonce()
        elif nonce.told_until > time.monotonic() + EARLY:
            self.early_retries += 1
        return nonce

    def rejected(self, tally: Tally, nonce: Nonce | None, reason: str, wait: float | None) -> None:
        tally.rejected[reason] += 1
        self.total.rejected[reason] += 1
        if nonce is not None:
            nonce.rejected += 1
            if wait is not None:
                nonce.told_until = time.monotonic() + wait

    def accepted(self, tally: Tally, nonce: Nonce, model: str) -> None:
        tally.enter()
        self.total.enter()
        tally.models[model] += 1
        self.total.models[model] += 1
        nonce.calls += 1
        if nonce.answered:
            self.calls_after_answer += 1

    def left(self, tally: Tally) -> None:
        """The call that was accepted is over, however it ended."""
        tally.in_flight -= 1
        self.total.in_flight -= 1
        self.last_at = time.monotonic()

    def failed(self, tally: Tally, nonce: Nonce, fault: str, wait: float | None) -> None:
        nonce.failed += 1
        tally.injected[fault] += 1
        self.total.injected[fault] += 1
        if wait is not None:
            nonce.told_until = time.monotonic() + wait

    def gone(self, tally: Tally, nonce: Nonce) -> None:
        nonce.gone += 1
        tally.gone += 1
        self.total.gone += 1

    def answered(self, tally: Tally, nonce: Nonce, usage: answers.Usage) -> None:
        nonce.answered += 1
        for count in (tally, self.total):
            count.answered += 1
            count.input_tokens += usage.input_tokens
            count.cached_tokens += usage.cached_tokens
            count.output_tokens += usage.output_tokens
            count.reasoning_tokens += usage.reasoning_tokens

    def report(self, with_nonces: bool) -> dict[str, Any]:
        """The body of GET /stats."""
        nonces = self.nonces.values()
        found = self.total.report()
        found |= {
            "nonces": len(nonces),
            "unanswered": sum(not nonce.answered for nonce in nonces),
            "answered_twice": sum(nonce.answered > 1 for nonce in nonces),
            "calls_after_answer": self.calls_after_answer,
            "repeats": sum(max(0, nonce.calls - nonce.failed - 1) for nonce in nonces),
            "max_calls": max((nonce.calls for nonce in nonces), default=0),
            "early_retries": self.early_retries,
            "span": self.last_at - self.first_at if self.first_at is not None and self.last_at else 0.0,
            "tags": dict(self.tags),
            "keys": {name: tally.report() for name, tally in self.keys.items()},
        }
        if with_nonces:
            found["by_nonce"] = {name: dataclasses.asdict(nonce) for name, nonce in self.nonces.items()}
        return found
