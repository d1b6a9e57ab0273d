import threading

import pytest
from sqlalchemy import update
from sqlmodel import Session, select

from tests import polling, rows
from worker import clock
from worker.database import Database
from worker.store import idempotency
from worker.store.idempotency import Answer, KeyReused, Said
from worker.tables import IDEMPOTENCY, Batch, Idempotency


def said(key: str = "k", fingerprint: str = "f", owner: str = "local") -> Said:
    return Said(owner=owner, key=key, fingerprint=fingerprint)


def create(database: Database, said: Said) -> Answer:
    """A batch, once."""
    return database.write(
        lambda session: idempotency.once(session, said, lambda: Answer(body=rows.add_batch(session).id.encode()))
    )


def batches(database: Database) -> int:
    with database.read() as session:
        return len(session.exec(select(Batch)).all())


def test_the_same_request_is_answered_as_it_was_first(database: Database) -> None:
    first, second = create(database, said()), create(database, said())
    assert (first.is_new, second.is_new, second.body, second.status) == (True, False, first.body, 200)
    assert batches(database) == 1
    others = (said("other"), said(owner="somebody"))
    assert all(create(database, other).is_new for other in others)


def test_another_request_with_the_key_is_refused(database: Database) -> None:
    create(database, said())
    with pytest.raises(KeyReused):
        create(database, said(fingerprint="g"))
    assert batches(database) == 1


def test_what_fails_stores_nothing(database: Database) -> None:
    def fail(session: Session) -> Answer:
        rows.add_batch(session)
        raise LookupError

    with pytest.raises(LookupError):
        database.write(lambda session: idempotency.once(session, said(), lambda: fail(session)))
    assert batches(database) == 0
    assert create(database, said(fingerprint="mended")).is_new


def test_a_twin_waits_for_the_first_ones_answer(database: Database) -> None:
    may_end, began = threading.Event(), threading.Event()

    def slowly(session: Session) -> Answer:
        id = rows.add_batch(session).id
        began.set()
        may_end.wait(10)
        return Answer(body=id.encode())

    answers: list[Answer] = []
    first = threading.Thread(
        target=lambda: answers.append(
            database.write(lambda session: idempotency.once(session, said(), lambda: slowly(session)))
        )
    )
    twins = [threading.Thread(target=lambda: answers.append(create(database, said()))) for _ in range(3)]
    first.start()
    assert began.wait(10)
    for twin in twins:
        twin.start()
    may_end.set()
    for thread in (first, *twins):
        thread.join()
    assert len(answers) == 4 and len({answer.body for answer in answers}) == 1
    assert sum(answer.is_new for answer in answers) == batches(database) == 1


def test_keys_are_forgotten_after_a_day(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "ROWS", 2)
    for key in "abcde":
        create(database, said(key))
    age(database, "abc")
    assert create(database, said("a", fingerprint="another")).is_new
    assert idempotency.sweep(database) == 2
    with database.read() as session:
        assert set(session.exec(select(Idempotency.key))) == {"a", "d", "e"}
    polling.until(lambda: idempotency.sweep(database) == 0)


def age(database: Database, keys: str) -> None:
    """As if they had been used yesterday."""
    change = update(IDEMPOTENCY).where(IDEMPOTENCY.c.key.in_(list(keys))).values(created_at=clock.now() - 86_401)
    database.write(lambda session: session.connection().execute(change))
