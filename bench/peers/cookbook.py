"""The method of the OpenAI cookbook's script for parallel requests, written anew.

One loop reads lines, keeps what is left of the requests and tokens of this minute, starts a call when both suffice and
sleeps a millisecond between two looks. Each line has five attempts, refused ones among them; calls share one default
aiohttp session (100 connections). The script would pause after a refusal, but looks for an error code (``429``) that
OpenAI's answers do not carry, so it does not. Tokens are estimated from lengths here, where it counts with tiktoken.
"""

import asyncio
import collections
import json
import time
from collections.abc import Iterator

import aiohttp

from bench.peers import work

ATTEMPTS = 5
LOOK_SECONDS = 0.001
UNLIMITED = 10**9


class Allowance:
    """What may still be used of a limit; it begins full, and fills by the minute."""

    def __init__(self, per_minute: int) -> None:
        self._most = per_minute
        self.left = float(per_minute)
        self._at = time.monotonic()

    def fill(self) -> None:
        now = time.monotonic()
        self.left = min(self._most, self.left + self._most * (now - self._at) / 60)
        self._at = now


class Script:
    def __init__(self, given: work.Given, session: aiohttp.ClientSession) -> None:
        self._given, self._session = given, session
        self._requests = Allowance(given.rpm or UNLIMITED)
        self._tokens = Allowance(given.tpm or UNLIMITED)
        self._again: collections.deque[tuple[work.Job, int]] = collections.deque()
        self._open = 0
        self._calls: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        jobs, waiting = self._given.jobs(), None
        while True:
            waiting = waiting or self._next(jobs)
            if waiting and self._admit(waiting[0]):
                self._start(*waiting)
                waiting = None
            if not waiting and not self._open and not self._again:
                return
            await asyncio.sleep(LOOK_SECONDS)

    def _next(self, jobs: Iterator[work.Job]) -> tuple[work.Job, int] | None:
        if self._again:
            return self._again.popleft()
        job = next(jobs, None)
        if job is None:
            return None
        self._open += 1
        return job, ATTEMPTS

    def _admit(self, job: work.Job) -> bool:
        tokens = len(json.dumps(job.body["messages"])) // 4 + int(job.body["max_tokens"])
        self._requests.fill()
        self._tokens.fill()
        if self._requests.left < 1 or self._tokens.left < tokens:
            return False
        self._requests.left -= 1
        self._tokens.left -= tokens
        return True

    def _start(self, job: work.Job, attempts: int) -> None:
        call = asyncio.create_task(self._call(job, attempts - 1))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    async def _call(self, job: work.Job, attempts: int) -> None:
        body = await self._ask(job)
        if body is None and attempts:
            self._again.append((job, attempts))
            return
        self._given.keep(job, body)
        self._open -= 1

    async def _ask(self, job: work.Job) -> object:
        try:
            async with self._session.post(f"{self._given.url}/chat/completions", json=job.body) as response:
                body = await response.json()
        except (aiohttp.ClientError, ValueError):
            return None
        return body if response.status == 200 else None


async def run(given: work.Given) -> None:
    async with aiohttp.ClientSession(headers={"authorization": f"Bearer {given.key}"}) as session:
        await Script(given, session).run()


if __name__ == "__main__":
    work.main(run)
