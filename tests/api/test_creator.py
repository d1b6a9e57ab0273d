"""Creates that come together share a transaction; what one of them raises is its own."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from sqlmodel import Session
from typing_extensions import override

from api import creator
from api.creator import Creator
from tests.grist import FAR
from tests.worker.store.test_held import new
from worker.database import Database, DatabaseAway
from worker.store import batches, held
from worker.store.held import Held, NewHeld


class Counted(Database):
    writes = 0

    @override
    async def written(self, change: Callable[[Session], Any]) -> Any:
        self.writes += 1
        return await super().written(change)


@pytest.fixture
def database(database_url: str) -> Any:
    database = Counted(database_url)
    yield database
    database.close()


def create(database: Database, news: Sequence[NewHeld]) -> tuple[list[Any], list[Held]]:
    """What each create brought or raised, and for whom was rung."""
    rung: list[Held] = []

    async def run() -> list[Any]:
        mine = Creator(database, rung.extend)
        return await asyncio.gather(*(mine.create(one) for one in news), return_exceptions=True)

    return asyncio.run(run()), rung


def test_what_comes_together_is_one_transaction_and_one_ring(database: Counted) -> None:
    made, rung = create(database, [new(str(number)) for number in range(50)])
    assert made == rung and len({job.id for job in made}) == 50
    assert database.writes == 1
    with database.read() as session:
        assert held.body(session, made[49].number) == new().body


def test_long_bodies_have_a_transaction_of_their_own(database: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(creator, "BODY_BYTES", 100)
    create(database, [new("a", body=b"x" * 60), new("b", body=b"x" * 60), new("c", body=b"x" * 999), new("d")])
    assert database.writes == 4


def test_one_that_is_refused_does_not_keep_the_others(database: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(session: Session, key: str) -> None:
        raise batches.BudgetSpent("mine", 0.0)

    monkeypatch.setattr(batches, "refuse_if_spent", refuse)
    made, rung = create(database, [new("a"), new("b", api_key="key_1"), new("c")])
    assert [type(one) for one in made] == [Held, batches.BudgetSpent, Held]
    assert [one.id for one in rung] == [made[0].id, made[2].id]


def test_who_waits_while_the_database_is_away_hears_of_it(database: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(session: Session, news: Sequence[NewHeld]) -> list[Held]:
        raise DatabaseAway("gone")

    monkeypatch.setattr(held, "create", away)
    made, rung = create(database, [new("a", holder=FAR), new("b")])
    assert [type(one) for one in made] == [DatabaseAway, DatabaseAway] and rung == []
