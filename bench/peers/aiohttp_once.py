"""The floor: a bare aiohttp loop that asks once."""

import asyncio

import aiohttp

from bench.peers import work


async def run(given: work.Given) -> None:
    jobs = given.jobs()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        connector=connector, headers={"authorization": f"Bearer {given.key}"}, timeout=aiohttp.ClientTimeout(600)
    ) as session:

        async def lane() -> None:
            for job in jobs:
                given.keep(job, await _ask(session, given, job))

        await asyncio.gather(*(lane() for _ in range(given.at_once)))


async def _ask(session: aiohttp.ClientSession, given: work.Given, job: work.Job) -> object:
    try:
        async with session.post(f"{given.url}/chat/completions", json=job.body) as response:
            return await response.json() if response.status == 200 else None
    except (aiohttp.ClientError, ValueError):
        return None


if __name__ == "__main__":
    work.main(run)
