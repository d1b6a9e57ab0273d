"""One scope as several processes see it, by a clock that the test moves."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis

from providers.rate_limits import QuotaState
from tests.worker.limiter.conftest import Connect
from worker.catalog import ScopeLimits
from worker.limiter.exchange import Ask, Exchange, Grant, QuotaAsk

SCOPE = "mill/default/flour"
KEY = f"gristmill:scope:{SCOPE}"
CLOCK = re.compile(r"^local time = .*\nlocal now = .*$", re.MULTILINE)


class Scope:
    """Its limits are told to every process; amounts are (want, least)."""

    def __init__(self, client: "Redis", **limits: Any) -> None:
        text, found = CLOCK.subn(
            "local now = tonumber(ARGV[2])", files("worker.limiter").joinpath("take.lua").read_text()
        )
        assert found == 1
        self.client = client
        self.limits = ScopeLimits(**limits)
        self.now = 1_700_000_000.0
        self._script = client.register_script(text)
        self._exchanges: dict[str, Exchange] = {}

    async def take(
        self,
        process: str = "a",
        *,
        requests: int = 0,
        tokens: tuple[float, float] = (0, 0),
        waiting: int | None = None,
        refund: Mapping[str, float] | None = None,
        unspent: Mapping[str, float] | None = None,
        seen: Mapping[str, QuotaState] | None = None,
        age: float = 0.0,
        **news: Any,
    ) -> Grant:
        wants = {"requests": (requests, min(1, requests)), "tokens": tokens}
        refund, unspent, seen = refund or {}, unspent or {}, seen or {}
        quotas = {
            quota: QuotaAsk(
                told=self.limits.told.get(quota),
                known=self.limits.known.get(quota),
                want=wants.get(quota, (0, 0))[0],
                least=wants.get(quota, (0, 0))[1],
                refund=refund.get(quota, 0),
                unspent=unspent.get(quota, 0),
                seen=seen.get(quota),
                seen_age=age,
            )
            for quota in {"requests", "tokens", *self.limits.told, *self.limits.known, *seen}
        }
        waits = requests if waiting is None else waiting
        news.setdefault("urgency", 2 if "urgent" in news else 0)
        return await self._exchange(process).take(SCOPE, self.limits, Ask(quotas=quotas, waiting=waits, **news))

    async def answered(self, count: int, *, process: str = "a", **news: Any) -> Grant:
        """So many good answers came since the last time."""
        return await self.take(process, answers="0" * min(50, count), accepted=count, **news)

    async def refused(self, count: int = 6, *, process: str = "a", cause: str = "unnamed", **news: Any) -> Grant:
        """So many 429s came since the last time."""
        return await self.take(process, answers="1" * count, refused=count, sent=count, cause=cause, **news)

    def pass_seconds(self, seconds: float) -> None:
        self.now += seconds

    def _exchange(self, process: str) -> Exchange:
        if process not in self._exchanges:
            one = self._exchanges[process] = Exchange(self.client, process)
            one._script = self._run  # type: ignore[assignment]
        return self._exchanges[process]

    async def _run(self, keys: list[str], args: list[bytes]) -> Any:
        return await self._script(keys=keys, args=[*args, str(round(self.now * 1000))])


def granted(grant: Grant, quota: str = "requests") -> float:
    return grant.quotas[quota].granted


Scenario = Callable[[Scope], Awaitable[None]]


def run(connect: Connect, scenario: Scenario, **limits: Any) -> None:
    async def main() -> None:
        async with connect() as client:
            await scenario(Scope(client, **limits))

    asyncio.run(main())
