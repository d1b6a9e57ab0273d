"""The database: SQLite with one writer thread a process, or Postgres. SQL is the truth."""

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import sqlalchemy
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlmodel import Session

from worker import clock
from worker.tables import sealed
from worker.vault import Vault

T = TypeVar("T")

log = logging.getLogger("gristmill.database")

BUSY_MILLISECONDS = 10_000
CONFLICTS = frozenset({"40001", "40P01"})
"""SQLSTATEs of a serialization failure and a deadlock: the transaction was rolled back whole and may run again."""
CONFLICT_TRIES = 8


class DatabaseAway(Exception):
    """The database cannot be reached, is locked or is full. Nothing is known of a commit that was under way."""


class Database:
    """Reads run on the caller's thread; writes are whole transactions, short (under 50 ms on SQLite)."""

    def __init__(self, url: str, vault: Vault | None = None) -> None:
        """``vault``: seals the columns that hold secrets; without one they are stored plain, and read empty."""
        self.url = sqlalchemy.make_url(url)
        self.sqlite = self.url.get_backend_name() == "sqlite"
        self._reader = _engine(self.url, begin="BEGIN")
        self._writer = _engine(self.url, begin="BEGIN IMMEDIATE") if self.sqlite else self._reader
        if vault is not None:
            sealed.use(self._reader.dialect, vault)
            sealed.use(self._writer.dialect, vault)
        self._thread = _WriterThread(self._transact) if self.sqlite else None

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session on one snapshot (SQLite) or of committed reads (Postgres). Raises DatabaseAway."""
        with _away(), Session(self._reader) as session:
            yield session

    def write(self, change: Callable[[Session], T]) -> T:
        """Run ``change`` in one transaction and commit. It may run again after a conflict. Raises DatabaseAway."""
        if self._thread is not None:
            return cast(T, self._thread.run(change))
        return self._transact(change)

    async def written(self, change: Callable[[Session], T]) -> T:
        """``write`` for loops. On SQLite it costs no thread but the writer's own. Raises DatabaseAway."""
        if self._thread is not None:
            return cast(T, await asyncio.wrap_future(self._thread.put(change)))
        return await asyncio.get_running_loop().run_in_executor(None, self._transact, change)

    def now(self) -> float:
        """Unix seconds by the database's clock."""
        with self.read() as session:
            return float(session.connection().execute(sqlalchemy.select(clock.now())).scalar_one())

    def close(self) -> None:
        if self._thread is not None:
            self._thread.close()
            self._writer.dispose()
        self._reader.dispose()

    def _transact(self, change: Callable[[Session], T]) -> T:
        for attempt in range(1, CONFLICT_TRIES + 1):
            try:
                with _away(), Session(self._writer, expire_on_commit=False) as session:
                    answer = change(session)
                    session.commit()
                    return answer
            except DatabaseAway as error:
                if attempt == CONFLICT_TRIES or not _is_conflict(error.__cause__):
                    raise
        raise AssertionError("unreachable")


def executemany(connection: Connection, sql: str, rows: list[tuple[Any, ...]]) -> None:
    """Run one driver-level statement, written with ``?`` places, for every row."""
    if rows:
        places = sql if connection.dialect.paramstyle == "qmark" else sql.replace("?", "%s")
        connection.exec_driver_sql(places, rows)


class _WriterThread:
    """Runs every write of the process in turn: SQLite has one writer, and waiting for it in SQLite is unfair."""

    def __init__(self, transact: Callable[[Callable[[Session], Any]], Any]) -> None:
        self._transact = transact
        self._queue: queue.SimpleQueue[tuple[Callable[[Session], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name="sqlite-writer", daemon=True)
        self._thread.start()

    def run(self, change: Callable[[Session], Any]) -> Any:
        if threading.current_thread() is self._thread:
            raise RuntimeError("a write inside a write")
        return self.put(change).result()

    def put(self, change: Callable[[Session], Any]) -> "Future[Any]":
        """Who cancels it before its turn has come calls it off."""
        done: Future[Any] = Future()
        with self._lock:
            if self._is_closed:
                done.set_exception(DatabaseAway("the database was closed"))
            else:
                self._queue.put((change, done))
        return done

    def close(self) -> None:
        """After what was put before. Whoever comes later must not wait for a thread that is no more."""
        with self._lock:
            self._is_closed = True
            self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            change, done = item
            if not done.set_running_or_notify_cancel():
                continue
            try:
                done.set_result(self._transact(change))
            except BaseException as error:
                done.set_exception(error)


def _engine(url: sqlalchemy.URL, *, begin: str) -> Engine:
    if url.get_backend_name() != "sqlite":
        return sqlalchemy.create_engine(
            url,
            hide_parameters=True,
            pool_pre_ping=False,
            pool_size=5,
            max_overflow=20,
            connect_args={"connect_timeout": 5},
        )
    engine = sqlalchemy.create_engine(
        url, hide_parameters=True, connect_args={"check_same_thread": False}, pool_size=5, max_overflow=40
    )

    @event.listens_for(engine, "connect")
    def connected(connection: Any, record: Any) -> None:
        connection.isolation_level = None
        for pragma in (
            "auto_vacuum=INCREMENTAL",  # has a meaning only before the first page is written
            f"busy_timeout={BUSY_MILLISECONDS}",
            "journal_mode=WAL",
            "synchronous=NORMAL",
            "journal_size_limit=67108864",
            "cache_size=-8000",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def began(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


@contextmanager
def _away() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        raise DatabaseAway(f"the database does not answer: {type(error.orig).__name__}") from error
    except PoolTimeout as error:
        raise DatabaseAway("the database does not answer: all connections of this process are in use") from error


def _is_conflict(error: BaseException | None) -> bool:
    if not isinstance(error, DBAPIError):
        return False
    return getattr(error.orig, "sqlstate", None) in CONFLICTS
