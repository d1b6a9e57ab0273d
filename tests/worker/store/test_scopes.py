from concurrent.futures import ThreadPoolExecutor

from tests import grist
from worker import clock
from worker.database import Database
from worker.store import scopes
from worker.store.scopes import PausedScope
from worker.tables import SCOPE

NAME = "mill/default/flour"


def pause(
    database: Database, reason: str = "auth", *, detail: str = "no", wait: float | None = None, probed: bool = False
) -> PausedScope:
    database.write(lambda session: scopes.pause(session, NAME, reason, detail, wait=wait, probed=probed))
    return paused(database)[NAME]


def paused(database: Database) -> dict[str, PausedScope]:
    with database.read() as session:
        return scopes.paused(session)


def probe(database: Database) -> bool:
    return database.write(lambda session: scopes.probe(session, NAME, 120.0))


def make_due(database: Database) -> None:
    statement = SCOPE.update().values(probe_at=clock.now() - 1)
    database.write(lambda session: session.connection().execute(statement))


def test_a_scope_that_was_never_seen_does_not_rest(database: Database) -> None:
    assert paused(database) == {}
    assert not probe(database)
    assert database.write(lambda session: scopes.resume(session, [NAME])) == 0


def test_a_pause_says_why_and_when_it_is_probed(database: Database) -> None:
    found = pause(database)
    assert (found.reason, found.detail) == ("auth", "no")
    assert 25 < found.probe_in <= 30


def test_further_failures_of_the_same_kind_do_not_put_off_the_probe(database: Database) -> None:
    first = pause(database)
    make_due(database)
    second = pause(database, detail="still not")
    assert second.probe_in == 0 and second.paused_at == first.paused_at


def test_probes_in_vain_come_more_and_more_seldom(database: Database) -> None:
    pause(database)
    for longest in (60, 120, 240, 480, 600, 600):
        make_due(database)
        assert probe(database)
        found = pause(database, probed=True)
        assert longest - 5 < found.probe_in <= longest


def test_an_outage_is_probed_soon_and_often(database: Database) -> None:
    assert pause(database, "outage").probe_in <= 1
    for _ in range(12):
        make_due(database)
        assert probe(database)
        pause(database, "outage", probed=True)
    assert 10 < paused(database)[NAME].probe_in <= 15


def test_what_the_provider_asked_for_is_a_floor(database: Database) -> None:
    assert pause(database, wait=900.0).probe_in > 890


def test_another_reason_begins_anew(database: Database) -> None:
    first = pause(database)
    found = pause(database, "outage")
    assert (found.reason, found.paused_at) == ("outage", first.paused_at)
    assert found.probe_in <= 1


def test_only_one_may_probe(database: Database) -> None:
    pause(database)
    assert not probe(database)
    make_due(database)
    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(lambda _: probe(database), range(8))) == 1
    assert paused(database)[NAME].probe_in > 100


def test_a_resumed_scope_rests_no_more_and_forgets(database: Database) -> None:
    pause(database)
    make_due(database)
    probe(database)
    assert database.write(lambda session: scopes.resume(session, [NAME])) == 1
    assert paused(database) == {}
    assert pause(database).probe_in <= 30


def test_many_find_out_at_once(database: Database) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: pause(database), range(16)))
    assert len(grist.all_of(database, SCOPE)) == 1


def test_whatever_a_provider_says_can_be_stored(database: Database) -> None:
    detail = pause(database, detail="a\0b\ud800" + "c" * 2_000).detail
    assert detail is not None and detail.startswith("ab") and len(detail) <= 500
