"""Holds requests until their answers are there: one look at SQL for all that wait in this process."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from sqlmodel import Session
from starlette.concurrency import run_in_threadpool

from api.creator import Creator
from api.price_memory import PriceMemory
from api.services import Services
from worker import owner
from worker.database import DatabaseAway
from worker.store import held
from worker.store.held import Held, NewHeld

log = logging.getLogger("gristmill.api")

LOOK_SECONDS = 0.02
"""Between two looks while somebody waits; longer if a look takes long."""
LONGEST_LOOK_SECONDS = 1.0
NOTE_SECONDS = 1.0
"""Deliveries are noted in SQL together, so often."""


class Stopping(Exception):
    """The server ends; the job goes on, and its answer is there for whoever asks again."""


class Holder:
    """Lives on the server's loop. Nothing of it is lost with the process but who waited."""

    def __init__(self, services: Services) -> None:
        self.name = owner.myself()
        self._services = services
        self.prices = PriceMemory(services.token_prices)
        self._creator = Creator(services.database, self.ring)
        self._waiting: dict[int, set[asyncio.Future[bytes]]] = {}
        self._unrung: list[tuple[int, int]] = []
        self._delivered: list[int] = []
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def create(self, new: NewHeld) -> Held:
        """The job, in one transaction with others, and rung for. Raises DatabaseAway or BudgetSpent."""
        return await self._creator.create(new)

    def ring(self, new: Sequence[Held]) -> None:
        """Tell the workers, with one message for all that come while another is on its way."""
        self._unrung += [(one.slice, 0) for one in new if one.slice is not None]
        self._keep_going("ring", self._ring)

    async def answer(self, job: Held) -> bytes:
        """The line of the job's result. Raises Stopping."""
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        futures = self._waiting.setdefault(job.job, set())
        futures.add(future)
        self._keep_going("look", self._look)
        try:
            return await future
        finally:
            futures.discard(future)
            if not futures:
                self._waiting.pop(job.job, None)

    def delivered(self, job: Held) -> None:
        self._delivered.append(job.number)
        self._keep_going("note", self._note)

    def abandoned(self, job: Held) -> None:
        """The client went away without its answer."""
        self._keep_going(f"abandon {job.number}", lambda: self._write(partial(held.abandon, numbers=[job.number])))

    async def closed(self) -> None:
        """Returns when everything that was to be noted is."""
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _keep_going(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if name not in self._tasks or self._tasks[name].done():
            for ended in [name for name, task in self._tasks.items() if task.done()]:
                del self._tasks[ended]
            self._tasks[name] = asyncio.get_running_loop().create_task(work())

    async def _ring(self) -> None:
        while self._unrung:
            chosen, self._unrung = self._unrung, []
            await run_in_threadpool(self._services.doorbell.ring_held, chosen)

    async def _look(self) -> None:
        while self._waiting:
            began = time.monotonic()
            try:
                found = await run_in_threadpool(self._found, list(self._waiting))
            except DatabaseAway as error:
                log.warning("%s; %d clients wait", error, len(self._waiting))
                await asyncio.sleep(LONGEST_LOOK_SECONDS)
                continue
            for job, line in found.items():
                for future in self._waiting.get(job, ()):
                    if not future.done():
                        future.set_result(line)
            if self._services.is_stopping():
                self._give_up()
            took = time.monotonic() - began
            await asyncio.sleep(min(LONGEST_LOOK_SECONDS, max(LOOK_SECONDS, 4 * took)))

    def _give_up(self) -> None:
        for futures in self._waiting.values():
            for future in futures:
                if not future.done():
                    future.set_exception(Stopping())

    async def _note(self) -> None:
        while self._delivered:
            await asyncio.sleep(NOTE_SECONDS)
            numbers, self._delivered = self._delivered, []
            await self._write(partial(held.deliver, numbers=numbers))

    async def _write(self, change: Callable[[Session], None]) -> None:
        try:
            await self._services.database.written(change)
        except DatabaseAway as error:
            log.warning("%s; who has got an answer is not noted", error)

    def _found(self, jobs: Sequence[int]) -> dict[int, bytes]:
        with self._services.database.read() as session:
            return held.answers(session, jobs)
