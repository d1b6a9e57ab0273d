"""Sends what is due, in a thread of its own: nothing here waits for slices, and no dead receiver for another."""

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial

from worker.database import Database, DatabaseAway
from worker.store import deliveries, fan_out
from worker.store.deliveries import Receiver
from worker.webhooks import sender
from worker.webhooks.sender import Message

log = logging.getLogger("gristmill.webhooks")

TICK_SECONDS = 0.5
AT_ONCE, AT_ONCE_EACH = 32, 3
"""Sendings in flight, and those to one receiver."""
LEASE_GRACE = 10.0


class Deliverer:
    """Works while ``leads`` is true. Two at once do no harm: each sending is claimed in SQL."""

    def __init__(
        self,
        database: Database,
        *,
        leads: Callable[[], bool],
        private: bool,
        scale: float = 1.0,
        timeout: float = sender.TIMEOUT_SECONDS,
        tick: float = TICK_SECONDS,
    ) -> None:
        self._database = database
        self._leads = leads
        self._private = private
        self._scale = scale
        self._timeout = timeout
        self._tick = tick
        self._busy: Counter[Receiver] = Counter()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="webhooks", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """At once: what is in flight will be sent again with the same id."""
        self._stopping.set()
        self._thread.join()

    async def _run(self) -> None:
        tasks: set[asyncio.Task[None]] = set()
        while not self._stopping.is_set():
            try:
                if self._leads():
                    await self._begin(tasks)
            except DatabaseAway as error:
                log.warning("%s; webhooks go on when it does", error)
            except Exception:
                log.exception("webhooks failed and will go on")
            await asyncio.sleep(self._tick)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _begin(self, tasks: set[asyncio.Task[None]]) -> None:
        await asyncio.to_thread(self._fan_out)
        full = [receiver for receiver, count in self._busy.items() if count >= AT_ONCE_EACH]
        for receiver in await asyncio.to_thread(self._due, full, AT_ONCE - self._busy.total()):
            self._busy[receiver] += 1
            task = asyncio.create_task(self._work(receiver))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    def _fan_out(self) -> None:
        with self._database.read() as session:
            waiting = fan_out.has_new_events(session)
        while waiting and self._database.write(fan_out.fan_out) == fan_out.MOST_EVENTS:
            continue

    def _due(self, full: list[Receiver], free: int) -> list[Receiver]:
        with self._database.read() as session:
            return deliveries.due_receivers(session, full, free) if free > 0 else []

    async def _work(self, receiver: Receiver) -> None:
        """Everything that is due for one receiver, one after the other."""
        claim = partial(deliveries.claim, receiver=receiver, lease_seconds=self._timeout + LEASE_GRACE)
        try:
            while message := await asyncio.to_thread(self._database.write, claim):
                if not await self._send(message):
                    return
        except DatabaseAway as error:
            log.warning("%s; what was sent may be sent again", error)
        except Exception:
            log.exception("a webhook could not be sent and will be tried again")
        finally:
            self._busy[receiver] -= 1
            self._busy += Counter()

    async def _send(self, message: Message) -> bool:
        answer = await sender.send(message, private=self._private, timeout=self._timeout)
        record = partial(deliveries.record, id=message.id, answer=answer, scale=self._scale)
        await asyncio.to_thread(self._database.write, record)
        return answer.is_success
