import dataclasses
from typing import Any

import sqlalchemy
from sqlmodel import Session

from tests import grist
from worker import clock
from worker.database import Database
from worker.store import scope_reports
from worker.store.scope_reports import Known, QuotaState, Report
from worker.tables import QUOTA, SCOPE_REPORT

FLOUR, BREAD = "mill/default/flour", "mill/default/bread"


def report(scope: str = FLOUR, **facts: Any) -> Report:
    values: dict[str, Any] = {
        "quotas": {"requests": QuotaState(allowed=600.0, source="headers", level=9.5)},
        "in_flight": 3,
        "waiting": 2,
        "places": 8.0,
        "seconds": 0.5,
        "rest": 0.0,
        "requests": 40,
        "tokens": 900,
    }
    return Report(scope=scope, **{**values, **facts})


def store(database: Database, *reports: Report, process: str = "one") -> None:
    database.write(lambda session: scope_reports.store(session, process, reports))


def known(database: Database) -> dict[str, Known]:
    with database.read() as session:
        return scope_reports.known(session)


def age(database: Database, seconds: float) -> None:
    def change(session: Session) -> None:
        session.connection().execute(QUOTA.update().values(seen_at=clock.now() - seconds, learned_at=1.0))
        session.connection().execute(SCOPE_REPORT.update().values(reported_at=clock.now() - seconds))

    database.write(change)


def test_nothing_was_said() -> None:
    assert scope_reports.Known().places is None


def test_processes_are_summed_where_each_speaks_of_itself(database: Database) -> None:
    store(database, report(), report(BREAD, rest=9.0))
    store(database, report(in_flight=1, waiting=0, places=9.0, seconds=0.0, requests=2, tokens=1), process="two")
    found = known(database)
    assert found.keys() == {FLOUR, BREAD}
    flour = found[FLOUR]
    assert (flour.in_flight, flour.waiting, flour.requests, flour.tokens) == (4, 2, 42, 901)
    assert (flour.places, flour.seconds, flour.rest_until) == (9.0, 0.5, None)
    assert found[BREAD].rest_until is not None
    quota = flour.quotas["requests"]
    assert (quota.allowed, quota.source, quota.level) == (600.0, "headers", 9.5)


def test_a_process_replaces_what_it_said_before(database: Database) -> None:
    store(database, report())
    store(database, report(in_flight=0, waiting=0, requests=0, tokens=0))
    assert len(grist.all_of(database, SCOPE_REPORT)) == 1
    assert known(database)[FLOUR].in_flight == 0


def test_a_limit_remembers_when_it_was_learned(database: Database) -> None:
    store(database, report())
    age(database, 1.0)
    store(database, report())
    assert known(database)[FLOUR].quotas["requests"].learned_at == 1.0
    store(database, report(quotas={"requests": QuotaState(allowed=300.0, source="headers", level=1.0)}))
    assert known(database)[FLOUR].quotas["requests"].learned_at > 1.0


def test_what_is_old_is_not_said_but_limits_are(database: Database) -> None:
    store(database, report())
    age(database, scope_reports.FRESH_SECONDS + 1)
    flour = known(database)[FLOUR]
    assert (flour.in_flight, flour.places, flour.quotas["requests"].level) == (0, None, None)
    assert flour.quotas["requests"].allowed == 600.0
    age(database, scope_reports.FORGET_SECONDS + 1)
    store(database, report(BREAD))
    assert [row.scope for row in grist.all_of(database, SCOPE_REPORT)] == [BREAD]


def test_only_what_providers_told_is_remembered(database: Database) -> None:
    quotas = {
        "requests": QuotaState(allowed=600.0, source="headers", level=1.0),
        "tokens": QuotaState(allowed=9e9, source="refusals", level=1.0),
        "tokens_day": QuotaState(allowed=5.0, source="config", level=1.0),
    }
    store(database, report(quotas=quotas))
    with database.read() as session:
        assert scope_reports.learned(session) == {FLOUR: {"requests": 600.0}}


def test_nothing_to_say_writes_nothing(database: Database) -> None:
    store(database)
    store(database, dataclasses.replace(report(), quotas={}))
    with database.read() as session:
        assert session.connection().execute(sqlalchemy.select(QUOTA)).all() == []
