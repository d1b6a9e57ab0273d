from sqlmodel import Session

from tests import grist, rows
from tests.polling import until
from worker import tables
from worker.control.janitor import Janitor
from worker.database import Database
from worker.retention import Policy
from worker.store import deletion


def ended(database: Database) -> str:
    def create(session: Session) -> str:
        batch = rows.add_batch(session)
        rows.add_result(session, batch, 1)
        rows.end(session, batch).completed_at = 1.0
        return batch.id

    return database.write(create)


def test_it_erases_while_it_leads(database: Database) -> None:
    leads = False
    janitor = Janitor(database, lambda: Policy(), leads=lambda: leads)
    first = ended(database)
    database.write(lambda session: deletion.delete(session, "local", first))
    janitor.start()
    try:
        assert len(grist.all_of(database, tables.RESULT)) == 1
        leads = True
        until(lambda: not grist.all_of(database, tables.RESULT))
    finally:
        janitor.stop()


def test_it_keeps_to_the_policy(database: Database) -> None:
    ended(database)
    janitor = Janitor(database, lambda: Policy(batches=1.0), leads=lambda: True)
    janitor.start()
    try:
        until(lambda: not grist.all_of(database, tables.RESULT))
    finally:
        janitor.stop()
