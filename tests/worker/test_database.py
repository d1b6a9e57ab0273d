"""Writes from a loop: whole transactions, as from any thread."""

import asyncio
import threading
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlmodel import Session

from worker.database import Database, DatabaseAway


def test_a_loop_awaits_what_was_written(database: Database) -> None:
    async def write() -> int:
        return await database.written(lambda session: session.connection().execute(text("SELECT 1")).scalar_one())

    assert asyncio.run(write()) == 1


def test_what_a_change_raises_reaches_the_loop(database: Database) -> None:
    def change(session: Session) -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        asyncio.run(database.written(change))


def test_a_write_that_is_cancelled_before_its_turn_is_called_off(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/a.db")
    busy, begun, ran = threading.Event(), threading.Event(), []

    def first(session: Session) -> None:
        begun.set()
        busy.wait()

    async def write() -> None:
        waiting = asyncio.ensure_future(database.written(first))
        await asyncio.to_thread(begun.wait)
        second = asyncio.ensure_future(database.written(lambda session: ran.append(2)))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        busy.set()
        await waiting

    asyncio.run(write())
    database.write(lambda session: ran.append(3))
    assert ran == [3]
    database.close()


def test_who_writes_when_it_was_closed_does_not_wait_for_ever(database_url: str) -> None:
    database = Database(database_url)
    assert database.write(lambda session: 1) == 1
    database.close()
    if database.sqlite:  # a pool of Postgres connections opens again
        with pytest.raises(DatabaseAway):
            database.write(lambda session: 2)
        with pytest.raises(DatabaseAway):
            asyncio.run(database.written(lambda session: 3))


def test_a_process_whose_connections_are_all_in_use_is_told_as_if_it_were_away(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits for the database to come back must not die of it."""
    engine = create_engine(database.url, pool_size=1, max_overflow=0, pool_timeout=0.05)
    monkeypatch.setattr(database, "_reader", engine)
    with database.read() as session:
        session.connection()
        with pytest.raises(DatabaseAway):
            database.now()
    assert database.now() > 0
    engine.dispose()
