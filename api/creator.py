"""Creates held jobs: whatever comes while one transaction runs is in the next one."""

import asyncio
from collections.abc import Callable, Sequence

from worker.database import Database, DatabaseAway
from worker.store import held
from worker.store.held import Held, NewHeld

GAP_SECONDS = 0.005
"""Between two transactions, so that calls that come one by one share them too."""
ROWS = 200
BODY_BYTES = 4 << 20
"""Of one transaction; a longer body has one of its own."""


class Creator:
    """Lives on the server's loop. ``made`` hears of the jobs of each transaction."""

    def __init__(self, database: Database, made: Callable[[Sequence[Held]], None]) -> None:
        self._database = database
        self._made = made
        self._waiting: list[tuple[NewHeld, asyncio.Future[Held]]] = []
        self._task: asyncio.Task[None] | None = None

    async def create(self, new: NewHeld) -> Held:
        """Raises DatabaseAway or what held.create raises for this job."""
        future: asyncio.Future[Held] = asyncio.get_running_loop().create_future()
        self._waiting.append((new, future))
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())
        return await future

    async def _run(self) -> None:
        while self._waiting:
            chosen = self._next()
            try:
                made = await self._write([new for new, _ in chosen])
            except DatabaseAway as error:
                _refuse([future for _, future in chosen], error)
            except Exception:
                await self._one_by_one(chosen)
            else:
                for (_, future), one in zip(chosen, made, strict=True):
                    if not future.done():
                        future.set_result(one)
            await asyncio.sleep(GAP_SECONDS)

    def _next(self) -> list[tuple[NewHeld, "asyncio.Future[Held]"]]:
        size = count = 0
        for new, _ in self._waiting[:ROWS]:
            size += len(new.body)
            if count and size > BODY_BYTES:
                break
            count += 1
        chosen, self._waiting = self._waiting[:count], self._waiting[count:]
        return chosen

    async def _one_by_one(self, chosen: Sequence[tuple[NewHeld, "asyncio.Future[Held]"]]) -> None:
        """What no database takes, or a budget refuses, must not keep the others."""
        for new, future in chosen:
            try:
                [made] = await self._write([new])
            except Exception as error:
                _refuse([future], error)
            else:
                if not future.done():
                    future.set_result(made)

    async def _write(self, news: Sequence[NewHeld]) -> list[Held]:
        made = await self._database.written(lambda session: held.create(session, news))
        self._made(made)
        return made


def _refuse(futures: Sequence["asyncio.Future[Held]"], error: Exception) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(error)
