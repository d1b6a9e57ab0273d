"""Which scopes rest, as this process knows it: its own findings at once, those of others within a second."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from sqlmodel import Session

from providers.errors import ProviderError
from worker.database import DatabaseAway
from worker.engine.health import Health, Refundable
from worker.routing.cooling import Cooling
from worker.store import scopes
from worker.store.scopes import PausedScope

log = logging.getLogger("gristmill.engine")

Write = Callable[[Callable[[Session], Any]], Awaitable[Any]]


class Rests:
    """Scopes at rest, and the health that decides when one must. Lives on the engine's loop."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._health: dict[str, Health] = {}
        self._paused: dict[str, str] = {}
        self._unsaved: set[str] = set()
        self._cooling = Cooling()
        self._saving: set[asyncio.Task[None]] = set()

    def reason(self, scope: str) -> str | None:
        """Why the scope rests; None if it does not."""
        return self._paused.get(scope)

    def cools(self, scope: str) -> float:
        """Seconds in which another deployment is to be preferred, if there is one."""
        return self._cooling.left(scope)

    def stumbled(self, scope: str, seconds: float) -> None:
        """A failure or a 429 of a deployment that others may stand in for; ``seconds`` is how long it cools."""
        if self._cooling.stumbled(scope, seconds):
            log.warning("%s is avoided for %g s", scope, seconds)
            self._save(scope, partial(scopes.cool, scope=scope, seconds=seconds))

    def avoid(self, scope: str, seconds: float) -> None:
        """Its quota is spent for so long: others are preferred."""
        if self._cooling.left(scope) > seconds / 2:
            return
        self._cooling.avoid(scope, seconds)
        self._save(scope, partial(scopes.cool, scope=scope, seconds=seconds))

    def fine(self, scope: str) -> None:
        """An answer that is neither a failure of the provider nor a 429."""
        self._health_of(scope).fine()
        self._cooling.fine(scope)

    def failed(self, scope: str, job: Refundable) -> bool:
        """A failure of the provider. True if it is an outage by now."""
        return self._health_of(scope).failed(job)

    def limited(self, scope: str) -> bool:
        """A 429. True if there has been no progress for too long."""
        return self._health_of(scope).limited()

    def pause(self, scope: str, reason: str, error: ProviderError, wait: float | None, *, probed: bool) -> None:
        """Rest the scope. ``probed``: it was probed in vain, so the next probe waits longer."""
        if scope in self._unsaved and not probed:
            return
        log.warning("%s rests (%s): %s", scope, reason, error.message)
        self._paused[scope] = str(reason)
        change = partial(scopes.pause, scope=scope, reason=str(reason), detail=error.message, wait=wait, probed=probed)
        self._save(scope, change)

    def resume(self, scope: str) -> None:
        """A probe was answered."""
        log.info("%s answers again", scope)
        self._paused.pop(scope, None)
        self._health_of(scope).fine()
        self._save(scope, partial(scopes.resume, scopes=[scope]))

    def refresh(self, stored: dict[str, PausedScope], unsaved_before: set[str], cooling: dict[str, float]) -> None:
        """Take over what SQL says, but for scopes whose own news was not stored when it was read."""
        self._cooling.refresh(cooling)
        present = {scope: one.reason for scope, one in stored.items()}
        for scope in unsaved_before | self._unsaved:
            present.pop(scope, None)
            if (reason := self._paused.get(scope)) is not None:
                present[scope] = reason
        self._paused = present

    @property
    def unsaved(self) -> set[str]:
        """Scopes whose news is on its way to SQL."""
        return set(self._unsaved)

    async def close(self) -> None:
        await asyncio.gather(*self._saving, return_exceptions=True)

    def _save(self, scope: str, change: Callable[[Session], Any]) -> None:
        self._unsaved.add(scope)

        async def save() -> None:
            try:
                await self._write(change)
            except DatabaseAway as error:
                log.warning("%s; that %s rests is not known elsewhere", error, scope)
            finally:
                self._unsaved.discard(scope)

        task = asyncio.get_running_loop().create_task(save())
        self._saving.add(task)
        task.add_done_callback(self._saving.discard)

    def _health_of(self, scope: str) -> Health:
        return self._health.setdefault(scope, Health())
