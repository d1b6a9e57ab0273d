"""Deliverers at work, and what they are to deliver."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests import rows
from worker.database import Database
from worker.states import BatchStatus
from worker.store import endings, webhooks
from worker.tables import Batch, WebhookEndpoint
from worker.webhooks.deliverer import Deliverer

Start = Callable[..., Deliverer]


@pytest.fixture
def start(database: Database) -> Iterator[Start]:
    started: list[Deliverer] = []

    def begin(**options: Any) -> Deliverer:
        options = {"private": True, "scale": 0.0001, "timeout": 3.0, "tick": 0.02, "leads": lambda: True, **options}
        started.append(Deliverer(database, **options))
        started[-1].start()
        return started[-1]

    yield begin
    for deliverer in started:
        deliverer.stop()


def endpoint(database: Database, url: str, *, owner: str = "local") -> WebhookEndpoint:
    return database.write(
        lambda session: webhooks.create(session, owner, name="n", url=url, event_types=["batch.completed"])
    )


def finish(database: Database, *, owner: str = "local", status: BatchStatus = BatchStatus.COMPLETED) -> Batch:
    def change(session: Any) -> Batch:
        batch = rows.end(session, rows.add_batch(session, owner=owner), status)
        endings.note_event(session, batch, batch.created_at + 2)
        return batch

    return database.write(change)
