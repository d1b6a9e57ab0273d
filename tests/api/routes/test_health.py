from tests.api.conftest import Serve, Server
from worker import owner
from worker.database import DatabaseAway
from worker.store import processes


def test_the_server_lives(server: Server) -> None:
    assert server.http.get("/healthz").json() == {"status": "ok"}


def test_it_is_ready_when_control_and_provider_workers_were_seen(server: Server) -> None:
    first = server.http.get("/readyz")
    assert first.status_code == 503
    assert first.json()["missing"] == ["no control worker was seen", "no provider worker was seen"]
    server.database.write(
        lambda session: processes.register(session, owner.myself(), "worker", ("control", "provider.openai"), 4)
    )
    ready = server.http.get("/readyz")
    assert ready.status_code == 200, ready.text
    assert ready.json() == {"status": "ready", "database": True, "broker": True, "workers": 1, "missing": []}


def test_a_broker_that_is_away_is_named(serve: Serve) -> None:
    answer = serve(broker_answers=lambda: False).http.get("/readyz")
    assert answer.status_code == 503
    assert "the broker does not answer" in answer.json()["missing"]


class _Away:
    def read(self) -> None:
        raise DatabaseAway("gone")

    def close(self) -> None:
        pass


def test_a_database_that_is_away_is_named(serve: Serve) -> None:
    answer = serve(database=_Away()).http.get("/readyz")
    assert (answer.status_code, answer.json()["missing"]) == (503, ["the database does not answer"])
