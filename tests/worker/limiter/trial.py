"""Whole trials of the limiter in simulated time: real gates, the real script in a real Valkey, a provider that counts.

A minute of quota passes in about a second of CPU, and always in the same way: what a trial shows, it shows again.
"""

import asyncio
import math
import random
import selectors
import types
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import orjson
import pytest
import redis
from typing_extensions import override

from providers.rate_limits import QUOTAS
from worker import limiter
from worker.catalog import ScopeLimits
from worker.limiter import answers, exchange, gate
from worker.limiter.answers import Refusal
from worker.limiter.cost import Cost
from worker.limiter.exchange import Ask, Exchange, Grant
from worker.limiter.gate import Gate, ProcessBudget, ScopeGate
from worker.limiter.line import Standing

CLOCK = "local time = redis.call('TIME')\nlocal now = time[1] * 1000 + math.floor(time[2] / 1000)"
BEGIN = 1_000_000.0
"""Seconds at which simulated time begins, for gates and script alike."""
WAY = (0.001, 0.006)
"""Seconds that a call takes to arrive."""


class _Loop(asyncio.SelectorEventLoop):
    """Never waits: where it would, time is later at once."""

    def __init__(self) -> None:
        self.now = BEGIN
        super().__init__(_Selector(self))

    @override
    def time(self) -> float:
        return self.now


class _Selector(selectors.SelectSelector):
    def __init__(self, loop: _Loop) -> None:
        super().__init__()
        self._loop = loop

    @override
    def select(self, timeout: float | None = None) -> Any:
        assert timeout is not None, "everybody waits, and nothing is due"
        self._loop.now += max(0.0, timeout)
        return super().select(0)


def run(trial: Coroutine[Any, Any, None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run it in simulated time."""
    loop = _Loop()
    clock = types.SimpleNamespace(monotonic=loop.time)
    for module in (gate, answers):
        monkeypatch.setattr(module, "time", clock)
    try:
        loop.run_until_complete(trial)
    finally:
        loop.run_until_complete(_end_all())
        loop.close()


async def _end_all() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


class SimulatedExchange(Exchange):
    """The script itself, by the loop's clock."""

    def __init__(self, client: "redis.Redis", process: str) -> None:
        text = files(limiter).joinpath("take.lua").read_text()
        assert CLOCK in text
        self._now_script = client.register_script(text.replace(CLOCK, "local now = tonumber(ARGV[2])"))
        self._process = process

    @override
    async def take(self, scope: str, limits: ScopeLimits, ask: Ask) -> Grant:
        keys = [scope, f"{scope}:processes", *(f"{scope}:{quota}" for quota in QUOTAS)]
        now = round(asyncio.get_running_loop().time() * 1000)
        answer = self._now_script(keys=keys, args=[orjson.dumps(self._message(limits, ask)), now])
        return exchange.read_grant(orjson.loads(answer))


@dataclass
class Provider:
    """Token buckets as a provider keeps them; ``burst`` in seconds of refill. Refusals come at once."""

    rpm: float = 0
    tpm: float = 0
    burst: float = 1
    headers: bool = True
    latency: float = 0.5
    jitter: float = 0.1
    stray: float = 0
    broken: float = 0
    places: int = 0
    accepted: int = 0
    refused: int = 0
    in_flight: int = 0
    by_batch: dict[int, list[float]] = field(default_factory=dict)
    _levels: dict[str, float] = field(default_factory=dict)
    _at: float = BEGIN

    def arrive(self, now: float, cost: Cost) -> tuple[float | None, dict[str, str]]:
        """Seconds to wait if it is refused, and the headers."""
        if self.places and self.in_flight >= self.places:
            self.refused += 1
            return 0.5, {}
        headers, waits = {}, []
        quotas = [("requests", self.rpm, 1), ("tokens", self.tpm, cost.tokens)]
        for quota, limit, amount in quotas:
            if limit:
                full = max(1.0, limit / 60 * self.burst)
                level = min(full, self._levels.get(quota, full) + (now - self._at) * limit / 60)
                self._levels[quota] = level
                if level < min(amount, full):
                    waits.append((min(amount, full) - level) / limit * 60)
        self._at = now
        if not waits and random.random() < self.stray:
            waits.append(1.0)
        for quota, limit, amount in quotas:
            if limit:
                self._levels[quota] -= 0 if waits else amount
                full = max(1.0, limit / 60 * self.burst)
                headers[f"x-ratelimit-limit-{quota}"] = f"{limit:.0f}"
                headers[f"x-ratelimit-remaining-{quota}"] = f"{max(0, math.floor(self._levels[quota]))}"
                headers[f"x-ratelimit-reset-{quota}"] = f"{(full - self._levels[quota]) / limit * 60:.3f}s"
        self.refused += bool(waits)
        self.accepted += not waits
        return (max(waits) if waits else None), headers if self.headers else {}


@dataclass
class Client:
    """Processes that send ``costs`` through gates of their own, as an engine would."""

    provider: Provider
    client: "redis.Redis"
    limits: ScopeLimits = field(default_factory=ScopeLimits)
    processes: int = 2
    calls: int = 500
    """In flight, of a process."""
    done: int = 0
    ended_at: float = 0.0

    def __post_init__(self) -> None:
        self.gates: list[ScopeGate] = []
        for number in range(self.processes):
            one = Gate(SimulatedExchange(self.client, f"p{number}"), ProcessBudget(self.calls, 1 << 30), _raise)
            self.gates.append(one.scope("scope", self.limits))

    async def send(self, costs: Sequence[Cost], batch: int = 1) -> float:
        """Everything, divided among the processes; seconds from the first call to the last answer."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.gather(
            *(self._work(gate, list(costs[number :: self.processes]), batch) for number, gate in enumerate(self.gates))
        )
        return loop.time() - began

    async def close(self) -> None:
        for one in self.gates:
            await one.close()

    async def _work(self, gate: ScopeGate, waiting: list[Cost], batch: int) -> None:
        again: list[tuple[float, Cost]] = []
        running: set[asyncio.Task[None]] = set()
        loop = asyncio.get_running_loop()
        while waiting or again or running:
            now = loop.time()
            waiting += [cost for due, cost in again if due <= now]
            again[:] = [(due, cost) for due, cost in again if due > now]
            if waiting:
                answered = len(self.provider.by_batch.get(batch, ()))
                admission = await gate.admit(waiting[:64], Standing(batch=batch, answered=answered))
                if admission.count == 0:
                    await asyncio.sleep(admission.wait)
                for _ in range(admission.count):
                    running.add(loop.create_task(self._call(gate, waiting.pop(0), again, batch)))
            elif again and not running:
                await asyncio.sleep(min(due for due, _ in again) - now)
            else:
                timeout = min((due for due, _ in again), default=now + 60) - now
                _, running = await asyncio.wait(running, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            running = {task for task in running if not task.done()}

    async def _call(self, gate: ScopeGate, cost: Cost, again: list[tuple[float, Cost]], batch: int) -> None:
        loop = asyncio.get_running_loop()
        sent_at = loop.time()
        await asyncio.sleep(random.uniform(*WAY))
        wait, headers = self.provider.arrive(loop.time(), cost)
        if wait is not None:
            floor = float(math.ceil(wait))
            gate.refused(Refusal(cause="", floor=floor), headers=headers, sent_at=sent_at)
            again.append((loop.time() + floor + random.uniform(0, 0.25), cost))
            gate.ended(cost, None)
            return
        self.provider.in_flight += 1
        provider = self.provider
        await asyncio.sleep(provider.latency + random.uniform(-provider.jitter, provider.jitter))
        self.provider.in_flight -= 1
        seconds = loop.time() - sent_at
        broken = random.random() < provider.broken
        gate.answers.accepted(seconds=seconds, tokens=cost.tokens, broken=broken, headers=headers, sent_at=sent_at)
        gate.ended(cost, cost.tokens)
        if broken:
            again.append((loop.time() + random.uniform(0, 1), cost))
            return
        self.done += 1
        self.provider.by_batch.setdefault(batch, []).append(loop.time())


def _raise(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error
