"""Write-behind with group commit: what is queued is stored as soon as the last commit returned."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import orjson

from worker import result_line
from worker.database import Database, DatabaseAway
from worker.states import Outcome
from worker.store.calls import BatchView, Ended, Granted, Recorded, Start
from worker.store.recording import record

log = logging.getLogger("gristmill.recorder")

LONGEST_WAIT = 2.0
"""Seconds between two tries of a commit while the database is away. The answers wait; no call is made again."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    end: Ended
    stored: Callable[[bool], None]


class Recorder:
    """Holds what calls brought until SQL has it. A call begins only after SQL has noted that it may."""

    def __init__(
        self,
        database: Database,
        holder: str,
        *,
        gap: float,
        rows: int,
        seen: Callable[[dict[int, BatchView]], None],
    ) -> None:
        self._database = database
        self._holder = holder
        self._gap = gap
        self._rows = rows
        self._seen = seen
        self._ends: list[_Waiting] = []
        self._starts: list[tuple[Start, asyncio.Future[Granted]]] = []
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def backlog(self) -> int:
        """Answers not yet stored."""
        return len(self._ends)

    def put(self, end: Ended, stored: Callable[[bool], None]) -> None:
        """Queue one call's end; ``stored`` is called once it is committed, with whether its slice is done."""
        self._ends.append(_Waiting(end, stored))
        self._notice()

    async def start(self, start: Start) -> Granted:
        """Ask SQL which calls may begin."""
        future: asyncio.Future[Granted] = asyncio.get_running_loop().create_future()
        self._starts.append((start, future))
        self._notice()
        return await future

    async def flushed(self) -> None:
        """Returns when nothing is queued or under way."""
        await self._idle.wait()

    async def run(self) -> None:
        """Commit for ever."""
        while True:
            await self._wake.wait()
            ends, self._ends = self._ends[: self._rows], self._ends[self._rows :]
            starts: list[tuple[Start, asyncio.Future[Granted]]] = []
            if not self._ends:
                # A job that is to be called again must not overtake the end of its last call.
                starts, self._starts = self._starts, []
                self._wake.clear()
            recorded = await self._commit([waiting.end for waiting in ends], [start for start, _ in starts])
            self._seen(recorded.batches)
            for waiting in ends:
                waiting.stored(waiting.end.slice in recorded.done)
            for (_, future), granted in zip(starts, recorded.granted, strict=True):
                if not future.done():
                    future.set_result(granted)
            if not self._ends and not self._starts:
                self._idle.set()
            await asyncio.sleep(self._gap)

    def _notice(self) -> None:
        self._idle.clear()
        self._wake.set()

    async def _commit(self, ends: list[Ended], starts: list[Start]) -> Recorded:
        """Store all at once, else one by one: a row that no database takes must not keep the others."""
        try:
            return await self._persist(ends, starts)
        except Exception:
            if not ends:
                raise
            log.exception("a commit of %d answers failed; they are stored one by one", len(ends))
        for end in ends:
            await self._store_somehow(end)
        return await self._persist([], starts) if starts else Recorded()

    async def _store_somehow(self, end: Ended) -> None:
        """The result without what is only told about it, rather than no result."""
        for form in (end, _bare(end)):
            try:
                await self._persist([form], [], again=True)
            except Exception:
                log.exception("the answer of job %d cannot be stored as it is", end.job)
            else:
                return
        await self._persist([_unstorable(end)], [], again=True)

    async def _persist(self, ends: list[Ended], starts: list[Start], *, again: bool = False) -> Recorded:
        """Try until the database is there. After a lost commit nothing is counted twice (``again``)."""
        wait = 0.05
        while True:
            try:
                return await self._write(ends, starts, again)
            except DatabaseAway as error:
                log.warning("%s; %d answers are held", error, len(ends))
                again = True
                await asyncio.sleep(wait)
                wait = min(LONGEST_WAIT, wait * 2)

    async def _write(self, ends: list[Ended], starts: list[Start], again: bool) -> Recorded:
        change = partial(record, holder=self._holder, ends=ends, starts=starts, again=again)
        return await self._database.written(change)


def _bare(end: Ended) -> Ended:
    """The attempt and its result alone: tokens and cost are unknown then, not zero."""
    return replace(
        end,
        status_code=None,
        error_code=None,
        request_id=None,
        model=None,
        fingerprint=None,
        ending=None,
        usage=None,
        cost=None,
        cost_source=None,
    )


def _unstorable(end: Ended) -> Ended:
    """The job fails, so that it is not called for ever."""
    message = "The answer could not be stored."
    custom_id = orjson.loads(end.line)["custom_id"] if end.line else None
    return replace(
        _bare(end),
        outcome=Outcome.FAILED,
        error_code="internal_error",
        kind="error",
        line=result_line.broken(end.batch_kind, end.job, custom_id, "internal_error", message),
    )
