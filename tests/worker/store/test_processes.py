import subprocess
import sys

import pytest

from tests import grist
from worker import clock, owner
from worker.database import Database
from worker.store import processes
from worker.tables import LEADERSHIP, PROCESS

FAR, FURTHER = "elsewhere/1/2/3", "elsewhere/1/4/5"


def register(database: Database, process: str, *queues: str, slots: int = 4) -> None:
    database.write(lambda session: processes.register(session, process, f"name of {process}", queues, slots))


def living(database: Database) -> list[str]:
    with database.read() as session:
        return [one.id for one in processes.living(session, 60.0)]


def lead(database: Database, process: str) -> bool:
    return database.write(lambda session: processes.lead(session, "control", process, 60.0))


def dead() -> str:
    """The name of a process that was, here."""
    code = "import sys; sys.path.insert(0, '.'); from worker import owner; print(owner.myself())"
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def test_who_beats_its_heart_lives(database: Database) -> None:
    register(database, FAR, "a", "b", slots=7)
    register(database, FURTHER)
    with database.read() as session:
        first, _ = processes.living(session, 60.0)
    assert (first.id, first.queues, first.slots) == (FAR, ("a", "b"), 7)
    statement = PROCESS.update().values(seen_at=clock.now() - 100)
    database.write(lambda session: session.connection().execute(statement))
    assert living(database) == []
    database.write(lambda session: processes.beat(session, FURTHER))
    assert living(database) == [FURTHER]


def test_who_left_or_is_seen_to_be_dead_lives_no_more(database: Database) -> None:
    register(database, FAR)
    register(database, dead())
    register(database, owner.myself())
    assert sorted(living(database)) == sorted([FAR, owner.myself()])
    database.write(lambda session: processes.leave(session, FAR))
    assert living(database) == [owner.myself()]


def test_processes_of_long_ago_are_forgotten(database: Database) -> None:
    register(database, FAR)
    statement = PROCESS.update().values(seen_at=1.0)
    database.write(lambda session: session.connection().execute(statement))
    register(database, FURTHER)
    assert [row.id for row in grist.all_of(database, PROCESS)] == [FURTHER]


def test_one_leads_until_its_term_ends(database: Database) -> None:
    assert lead(database, FAR) and lead(database, FAR)
    assert not lead(database, FURTHER)
    statement = LEADERSHIP.update().values(until=clock.now() - 1)
    database.write(lambda session: session.connection().execute(statement))
    assert lead(database, FURTHER)
    assert not lead(database, FAR)


def test_a_leader_may_resign_but_only_for_itself(database: Database) -> None:
    lead(database, FAR)
    database.write(lambda session: processes.resign(session, "control", FURTHER))
    assert not lead(database, FURTHER)
    database.write(lambda session: processes.resign(session, "control", FAR))
    assert lead(database, FURTHER)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a start time has less precision")
def test_a_dead_leader_is_followed_at_once(database: Database) -> None:
    assert lead(database, dead())
    assert lead(database, FAR)
