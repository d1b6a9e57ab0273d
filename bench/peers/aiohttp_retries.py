"""The floor with retries: a bare aiohttp loop that waits as it is told, or twice as long each time, and asks again.

Told a rate, it spaces its first calls evenly, as a careful user would write it.
"""

import asyncio
import random

import aiohttp

from bench.peers import work


class Pace:
    """One call each so many seconds."""

    def __init__(self, rpm: int | None) -> None:
        self._gap = 60 / rpm if rpm else 0.0
        self._next = 0.0

    async def turn(self) -> None:
        now = asyncio.get_running_loop().time()
        self._next = max(now, self._next + self._gap)
        if self._next > now:
            await asyncio.sleep(self._next - now)


async def run(given: work.Given) -> None:
    jobs, pace = given.jobs(), Pace(given.rpm)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        connector=connector, headers={"authorization": f"Bearer {given.key}"}, timeout=aiohttp.ClientTimeout(600)
    ) as session:

        async def lane() -> None:
            for job in jobs:
                given.keep(job, await _answer(session, given, job, pace))

        await asyncio.gather(*(lane() for _ in range(given.at_once)))


async def _answer(session: aiohttp.ClientSession, given: work.Given, job: work.Job, pace: Pace) -> object:
    for attempt in range(work.ATTEMPTS):
        await pace.turn()
        body, wait = await _ask(session, given, job)
        if body is not None:
            return body
        await asyncio.sleep(wait or random.uniform(0.5, 1.0) * min(30.0, 0.5 * 2**attempt))
    return None


async def _ask(session: aiohttp.ClientSession, given: work.Given, job: work.Job) -> tuple[object, float]:
    try:
        async with session.post(f"{given.url}/chat/completions", json=job.body) as response:
            if response.status == 200:
                return await response.json(), 0.0
            return None, float(response.headers.get("retry-after", 0.0))
    except (aiohttp.ClientError, ValueError):
        return None, 0.0


if __name__ == "__main__":
    work.main(run)
