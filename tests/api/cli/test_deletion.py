import pytest
from sqlmodel import Session

from tests import rows
from tests.api.cli.conftest import Gristmill
from tests.api.conftest import Serve, Server


@pytest.fixture
def real(serve: Serve) -> Server:
    return serve()


def ended(server: Server) -> str:
    def create(session: Session) -> str:
        return rows.end(session, rows.add_batch(session)).id

    return server.database.write(create)


def test_batches_are_deleted_one_after_the_other(gristmill: Gristmill, real: Server) -> None:
    first, second, kept = (ended(real) for _ in range(3))
    done = gristmill("delete", first, second, "--yes", "--server", real.url)
    assert (done.status, done.out) == (0, f"{first} is deleted\n{second} is deleted\n")
    assert [batch["id"] for batch in real.http.get("/v1/batches").json()["data"]] == [kept]
    assert len(real.http.get("/v1/files").json()["data"]) == 3


def test_their_input_files_go_if_that_is_asked(gristmill: Gristmill, real: Server) -> None:
    assert gristmill("delete", ended(real), "--files", "--yes", "--server", real.url).status == 0
    assert real.http.get("/v1/files").json()["data"] == []


def test_nothing_goes_where_nobody_can_be_asked(gristmill: Gristmill, real: Server) -> None:
    batch = ended(real)
    done = gristmill("delete", batch, "--server", real.url)
    assert done.status == 2
    assert "Delete 1 batch for ever? There is nobody to ask: say --yes." in done.err
    assert real.http.get(f"/v1/batches/{batch}").status_code == 200


def test_one_that_runs_is_refused(gristmill: Gristmill, real: Server) -> None:
    batch = real.database.write(lambda session: rows.begin(session, rows.add_batch(session)).id)
    done = gristmill("delete", batch, "--yes", "--server", real.url)
    assert done.status == 2
    assert "Cannot delete a batch with status 'in_progress'" in done.err
