import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from api.routes import batch_events
from tests import grist, rows
from tests.api.conftest import Serve, Server
from worker.database import DatabaseAway


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_events, "LOOK_SECONDS", 0.01)


@contextmanager
def listening(server: Server, id: str, **headers: str) -> Iterator[Iterator[str]]:
    """The lines of the stream."""
    with server.http.stream("GET", f"/v1/batches/{id}/events", headers=headers, timeout=10) as answer:
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        yield answer.iter_lines()


def next_event(lines: Iterator[str]) -> tuple[str, dict[str, Any]]:
    """Its id and its batch."""
    assert next(lines) == "event: batch"
    id, data, end = next(lines), next(lines), next(lines)
    assert end == ""
    return id.removeprefix("id: "), json.loads(data.removeprefix("data: "))


def ended(server: Server) -> str:
    return server.database.write(lambda session: rows.end(session, rows.add_batch(session)).id)


def test_each_change_is_an_event_until_the_batch_is_at_rest(server: Server) -> None:
    number = grist.add(server.database, 2)
    id = grist.batch(server.database, number).id
    with listening(server, id) as lines:
        _, first = next_event(lines)
        assert (first["id"], first["status"], first["request_counts"]["completed"]) == (id, "in_progress", 0)
        grist.change(server.database, number, completed=1, open=1)
        assert next_event(lines)[1]["request_counts"]["completed"] == 1
        grist.change(server.database, number, status="completed", open=0)
        _, last = next_event(lines)
        assert last == server.http.get(f"/v1/batches/{id}").json()
        assert list(lines) == []


def test_silence_is_filled_with_comments(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_events, "KEEP_ALIVE_SECONDS", 0.03)
    with listening(server, grist.batch(server.database, grist.add(server.database, 1)).id) as lines:
        next_event(lines)
        assert [next(lines) for _ in range(4)] == [": nothing new", "", ": nothing new", ""]


def test_who_knows_the_last_state_is_told_to_stay_away(server: Server) -> None:
    id = ended(server)
    with listening(server, id) as lines:
        last, _ = next_event(lines)
    again = server.http.get(f"/v1/batches/{id}/events", headers={"last-event-id": last})
    assert (again.status_code, again.content) == (204, b"")
    for odd in ("x", "", "9" * 2_000):
        with listening(server, id, **{"last-event-id": odd}) as lines:
            assert next_event(lines)[0] == last


def test_who_comes_back_hears_only_what_is_new(server: Server) -> None:
    number = grist.add(server.database, 1)
    id = grist.batch(server.database, number).id
    with listening(server, id) as lines:
        known, _ = next_event(lines)
    with listening(server, id, **{"last-event-id": known}) as lines:
        grist.change(server.database, number, retries=3)
        assert next_event(lines)[1]["gristmill"]["retries"] == 3


def test_a_listener_who_goes_ends_its_stream(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = threading.Event()
    stream = batch_events._stream

    async def watched(*args: Any) -> AsyncIterator[str]:
        try:
            async for event in stream(*args):
                yield event
        finally:
            stopped.set()

    monkeypatch.setattr(batch_events, "_stream", watched)
    with listening(server, grist.batch(server.database, grist.add(server.database, 1)).id) as lines:
        next_event(lines)
        assert not stopped.is_set()
    assert stopped.wait(10)


def test_many_listeners_hold_no_threads(server: Server) -> None:
    """There are 40 threads for everything else."""
    number = grist.add(server.database, 1)
    id = grist.batch(server.database, number).id
    before = threading.active_count()
    with ExitStack() as stack:
        streams = [stack.enter_context(listening(server, id)) for _ in range(60)]
        for lines in streams:
            next_event(lines)
        assert server.http.get(f"/v1/batches/{id}").status_code == 200
        assert threading.active_count() - before <= 40
        grist.change(server.database, number, status="completed", open=0)
        assert {next_event(lines)[1]["status"] for lines in streams} == {"completed"}


def test_a_database_that_is_away_for_a_moment_ends_no_stream(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    number = grist.add(server.database, 1)
    away = threading.Event()
    asked = threading.Event()
    look = batch_events._look

    def looks(*args: Any) -> Any:
        if away.is_set():
            asked.set()
            raise DatabaseAway("away")
        return look(*args)

    monkeypatch.setattr(batch_events, "_look", looks)
    with listening(server, grist.batch(server.database, number).id) as lines:
        next_event(lines)
        away.set()
        assert asked.wait(10)
        grist.change(server.database, number, retries=3)
        away.clear()
        assert next_event(lines)[1]["gristmill"]["retries"] == 3


def test_a_server_that_stops_ends_its_streams(serve: Serve) -> None:
    stopping = threading.Event()
    server = serve(is_stopping=stopping.is_set)
    with listening(server, grist.batch(server.database, grist.add(server.database, 1)).id) as lines:
        next_event(lines)
        stopping.set()
        assert list(lines) == []


def test_nobody_listens_to_what_is_not_theirs(server: Server) -> None:
    theirs = grist.batch(server.database, grist.add(server.database, 1, owner="somebody")).id
    for id in (theirs, "batch_x"):
        assert server.http.get(f"/v1/batches/{id}/events").status_code == 404
