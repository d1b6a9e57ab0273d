"""The script that every worker process exchanges with, and the values that go in and out."""

from dataclasses import dataclass
from importlib.resources import files

from redis.asyncio import Redis
from redis.exceptions import RedisError

from worker.catalog import ScopeLimits

SLOTS_TTL_MS = 10_000
"""A process that is silent for so long gives up its part of a scope's concurrency."""

URGENT_MS = 2_500
"""For so long what an urgent process has asked for is kept from the others; it asks again every second."""


class LimiterAway(Exception):
    """Valkey does not answer: what is leased may be used up, nothing more may begin."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ask:
    """What a process wants of a scope and has to tell; seconds, requests, tokens. A refund below 0 is a debt.

    ``urgent``: what it cannot get now is kept for it, also from those who asked before.
    """

    requests: int = 0
    tokens: int = 0
    least_tokens: int = 0
    refund_requests: int = 0
    refund_tokens: int = 0
    slots: int = 0
    busy: int = 0
    urgent: bool = False
    answers: str = ""
    floor: float = 0.0
    force: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Grant:
    """What it got. ``wait``: seconds until more may be granted; ``rest``: seconds in which nothing will be."""

    requests: int
    tokens: int
    slots: int
    wait: float
    rest: float


class Exchange:
    """Runs the script. One for a process."""

    def __init__(self, redis: "Redis", process: str, prefix: str = "gristmill:scope:") -> None:
        self._script = redis.register_script(files(__package__).joinpath("take.lua").read_text())
        self._process = process
        self._prefix = prefix

    async def take(self, scope: str, limits: ScopeLimits, ask: Ask) -> Grant:
        """Raises LimiterAway."""
        arguments: list[str | int | float] = [
            "process", self._process, "ttl_ms", SLOTS_TTL_MS,
            "requests_limit", limits.requests_per_minute or 0, "tokens_limit", limits.tokens_per_minute or 0,
            "concurrency_limit", limits.concurrency or 0,
            "requests", ask.requests, "tokens", ask.tokens, "least_tokens", ask.least_tokens,
            "refund_requests", ask.refund_requests, "refund_tokens", ask.refund_tokens,
            "slots", ask.slots, "busy", ask.busy, "answers", f"x{ask.answers}", "floor_ms", round(ask.floor * 1000),
            "force", int(ask.force), "urgent", int(ask.urgent), "urgent_ms", URGENT_MS,
        ]  # fmt: skip
        try:
            requests, tokens, slots, wait, rest = await self._script(keys=[self._prefix + scope], args=arguments)
        except (RedisError, OSError) as error:
            raise LimiterAway(f"the limiter does not answer: {type(error).__name__}") from error
        return Grant(
            requests=int(requests),
            tokens=int(float(tokens)),
            slots=int(slots),
            wait=int(wait) / 1000,
            rest=int(rest) / 1000,
        )
