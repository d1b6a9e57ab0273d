"""What the limiter is for: the end comes as early as the provider's limit permits, and hardly a call is refused."""

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import redis

from tests.worker.limiter import trial
from tests.worker.limiter.trial import Client, Provider
from worker.catalog import ScopeLimits
from worker.limiter.cost import Cost

CALL = Cost(60, 40, 400)
TOLD = ScopeLimits(told={"requests": 3000.0})


@pytest.fixture
def server(valkey: str) -> Iterator["redis.Redis"]:
    random.seed(3)
    with redis.Redis.from_url(valkey) as client:
        yield client


@dataclass
class Trial:
    seconds: float = 0.0


def play(client: Client, costs: list[Cost], monkeypatch: pytest.MonkeyPatch) -> float:
    """Send everything; seconds of simulated time."""
    found = Trial()

    async def main() -> None:
        found.seconds = await client.send(costs)
        await client.close()

    trial.run(main(), monkeypatch)
    assert client.done == len(costs)
    return found.seconds


@pytest.mark.parametrize("told", [True, False], ids=["told", "not_told"])
@pytest.mark.parametrize(("burst", "calls", "ideal"), [(1, 2000, 39.5), (60, 5000, 40.5)], ids=["smooth", "bucket"])
def test_a_rate_is_used_to_the_full(
    server: "redis.Redis", monkeypatch: pytest.MonkeyPatch, told: bool, burst: int, calls: int, ideal: float
) -> None:
    provider = Provider(rpm=3000, burst=burst)
    client = Client(provider, server, TOLD if told else ScopeLimits())
    seconds = play(client, [CALL] * calls, monkeypatch)
    assert seconds < 1.05 * ideal
    assert provider.refused < 0.01 * calls


@pytest.mark.parametrize(("burst", "calls", "ideal"), [(1, 3000, 59.5), (60, 5000, 40.5)], ids=["smooth", "bucket"])
def test_a_silent_provider_is_learned_from_its_refusals(
    server: "redis.Redis", monkeypatch: pytest.MonkeyPatch, burst: int, calls: int, ideal: float
) -> None:
    provider = Provider(rpm=3000, burst=burst, headers=False)
    seconds = play(Client(provider, server), [CALL] * calls, monkeypatch)
    assert seconds < 1.15 * ideal
    assert provider.refused < 0.03 * calls


@pytest.mark.parametrize("told", [True, False], ids=["told", "not_told"])
def test_tokens_of_mixed_sizes(server: "redis.Redis", monkeypatch: pytest.MonkeyPatch, told: bool) -> None:
    costs = [Cost(random.choice([30, 180, 980]), 20, 400) for _ in range(800)]
    total = sum(cost.tokens for cost in costs)
    provider = Provider(tpm=600_000, burst=1)
    limits = ScopeLimits(told={"tokens": 600_000.0}) if told else ScopeLimits()
    seconds = play(Client(provider, server, limits), costs, monkeypatch)
    assert seconds < 1.08 * ((total - 10_000) / 10_000 + 0.5)
    assert provider.refused < 0.02 * len(costs)


def test_one_who_configures_too_much_is_corrected(server: "redis.Redis", monkeypatch: pytest.MonkeyPatch) -> None:
    provider = Provider(rpm=1500, burst=1)
    seconds = play(Client(provider, server, TOLD), [CALL] * 800, monkeypatch)
    assert seconds < 1.05 * (775 / 25 + 0.5)
    assert provider.refused < 60


def test_a_limit_that_halves_and_returns(server: "redis.Redis", monkeypatch: pytest.MonkeyPatch) -> None:
    provider = Provider(rpm=3000, burst=1)
    client = Client(provider, server)

    async def main() -> None:
        work = asyncio.ensure_future(client.send([CALL] * 2500))
        await asyncio.sleep(15)
        provider.rpm = 1500
        await asyncio.sleep(20)
        provider.rpm = 3000
        assert await work < 1.08 * (49 + 10 + 0.5)
        await client.close()

    trial.run(main(), monkeypatch)
    assert provider.refused < 40


def test_a_share_leaves_the_rest_to_others(server: "redis.Redis", monkeypatch: pytest.MonkeyPatch) -> None:
    provider = Provider(rpm=3000, burst=1)
    client = Client(provider, server, ScopeLimits(share=0.7))
    got = []

    async def other() -> None:
        """Takes 30 % of the limit, evenly."""
        while client.done < 1400:
            await asyncio.sleep(60 / 900)
            got.append(provider.arrive(asyncio.get_running_loop().time(), CALL)[0] is None)

    async def main() -> None:
        neighbour = asyncio.ensure_future(other())
        assert await client.send([CALL] * 1400) < 1.05 * (1400 / 35 + 0.5)
        await neighbour
        await client.close()

    trial.run(main(), monkeypatch)
    assert sum(got) > 0.95 * len(got)


@pytest.mark.parametrize("places", [4, 50])
def test_the_places_of_a_provider_that_counts_calls_are_found(
    server: "redis.Redis", monkeypatch: pytest.MonkeyPatch, places: int
) -> None:
    provider = Provider(places=places, headers=False, jitter=0.0)
    calls = places * 100
    seconds = play(Client(provider, server), [CALL] * calls, monkeypatch)
    assert seconds < 1.2 * calls / places * 0.5
    assert provider.refused < max(20, 0.02 * calls)


def test_without_a_limit_the_window_grows_to_what_the_processes_bear(
    server: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = Provider(latency=1.0, jitter=0.0)
    assert play(Client(provider, server, calls=500), [CALL] * 20_000, monkeypatch) < 20 / 0.75
    assert provider.refused == 0


@pytest.mark.parametrize("concurrency", [None, 100])
@pytest.mark.parametrize("processes", [1, 2])
def test_stray_refusals_and_failures_slow_nobody_down(
    server: "redis.Redis", monkeypatch: pytest.MonkeyPatch, concurrency: int | None, processes: int
) -> None:
    provider = Provider(latency=0.05, jitter=0.0, stray=0.02, broken=0.05, headers=False)
    limits = ScopeLimits(concurrency=concurrency)
    client = Client(provider, server, limits, processes=processes, calls=100)
    assert play(client, [CALL] * 8000, monkeypatch) < 1.1 * (
        8000 / (100 * (1 if concurrency else processes)) * 0.055 + 3
    )
    assert client.gates[0].report().quotas == {}


def test_a_short_batch_passes_a_long_one(server: "redis.Redis", monkeypatch: pytest.MonkeyPatch) -> None:
    provider = Provider(rpm=600, burst=1)
    client = Client(provider, server, ScopeLimits(told={"requests": 600.0}))

    async def main() -> None:
        long = asyncio.ensure_future(client.send([CALL] * 2000, batch=1))
        await asyncio.sleep(90)
        assert await client.send([CALL] * 20, batch=2) < 1.5 * 2.5
        long.cancel()
        await asyncio.gather(long, return_exceptions=True)
        await client.close()

    trial.run(main(), monkeypatch)


def test_what_refuses_at_random_is_not_taken_for_a_rate(server: "redis.Redis", monkeypatch: pytest.MonkeyPatch) -> None:
    provider = Provider(latency=0.05, jitter=0.0, stray=0.3, headers=False)
    assert play(Client(provider, server, processes=1, calls=64), [CALL] * 300, monkeypatch) < 60


def test_long_answers_do_not_hold_up_the_first_calls(server: "redis.Redis", monkeypatch: pytest.MonkeyPatch) -> None:
    provider = Provider(latency=60.0, headers=False)
    assert play(Client(provider, server), [CALL] * 60, monkeypatch) < 65
