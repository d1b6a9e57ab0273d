from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from worker import master_key, settings
from worker.database import Database
from worker.provider_key import Source
from worker.store import provider_keys, scopes
from worker.tables import SCOPE, SECRET
from worker.vault import Sealed, Vault


@pytest.fixture
def vault(home: Path) -> Vault:
    return Vault(settings.load())


def put(database: Database, vault: Vault, provider: str, value: str, *, account: str = "default") -> None:
    database.write(lambda session: provider_keys.put(session, vault, provider, account, value))


def opened(database: Database, vault: Vault) -> dict[tuple[str, str], str | None]:
    with database.read() as session:
        found = provider_keys.opened(vault, provider_keys.rows(session))
    return {name: key.value for name, key in found.items()}


def test_a_key_is_set_replaced_and_removed(database: Database, vault: Vault) -> None:
    put(database, vault, "openai", "sk-old")
    put(database, vault, "openai", "sk-0123456789-new1")
    put(database, vault, "openai", "sk-work", account="work")
    assert opened(database, vault) == {("openai", "default"): "sk-0123456789-new1", ("openai", "work"): "sk-work"}
    with database.read() as session:
        assert [(one.account, one.hint) for one in provider_keys.entries(session)] == [
            ("default", "...new1"),
            ("work", "..."),
        ]
    assert database.write(lambda session: provider_keys.remove(session, "openai", "default"))
    assert not database.write(lambda session: provider_keys.remove(session, "openai", "default"))
    assert opened(database, vault) == {("openai", "work"): "sk-work"}


def test_the_table_does_not_hold_what_it_keeps(database: Database, vault: Vault) -> None:
    put(database, vault, "openai", "sk-0123456789-abcd")
    with database.read() as session:
        row: Any = session.connection().execute(sqlalchemy.select(SECRET)).one()
    assert "sk-" not in str(row) and row.owner == "operator"


def test_every_change_shows_in_the_rows(database: Database, vault: Vault) -> None:
    seen = []
    for value in ("sk-a", "sk-b", "sk-b"):
        put(database, vault, "openai", value)
        with database.read() as session:
            seen.append(provider_keys.rows(session))
    assert len(set(seen)) == 3


def test_one_that_cannot_be_read_hinders_no_other(database: Database, vault: Vault, home: Path) -> None:
    put(database, vault, "lost", "sk-lost")
    (home / master_key.FILE).unlink()
    put(database, vault, "openai", "sk-mine")
    with database.read() as session:
        found = provider_keys.opened(vault, provider_keys.rows(session))
    assert found[("openai", "default")].value == "sk-mine"
    lost = found[("lost", "default")]
    assert (lost.source, lost.value) == (Source.DATABASE, None)
    assert "provider/lost/default was encrypted with another master key" in str(lost.fault)


def test_resealing_is_all_or_nothing(database: Database, vault: Vault, home: Path) -> None:
    put(database, vault, "openai", "sk-mine")
    old = vault.master_key.read()
    assert database.write(lambda session: provider_keys.reseal(session, vault)) == 1
    vault.master_key.keep((master_key.new(), *old))
    assert database.write(lambda session: provider_keys.reseal(session, vault)) == 1
    vault.master_key.keep(vault.master_key.read()[:1])
    assert opened(database, Vault(settings.load())) == {("openai", "default"): "sk-mine"}
    vault.master_key.keep((master_key.new(),))
    with database.read() as session:
        before = provider_keys.rows(session)
    with pytest.raises(Sealed):
        database.write(lambda session: provider_keys.reseal(session, Vault(settings.load())))
    with database.read() as session:
        assert provider_keys.rows(session) == before


def test_what_rests_for_the_old_key_is_probed_at_once(database: Database, vault: Vault) -> None:
    def rest(session: Any) -> None:
        for scope, reason in (
            ("open_ai/default", "auth"),
            ("open_ai/default/gpt-4o", "balance"),
            ("open_ai/default/gpt-5", "outage"),
            ("open_ai/work/gpt-4o", "auth"),
            ("openXai/default/gpt-4o", "auth"),
        ):
            scopes.pause(session, scope, reason, "refused", wait=1_000.0)

    database.write(rest)
    put(database, vault, "open_ai", "sk-new")
    with database.read() as session:
        due = {id for id, one in scopes.paused(session).items() if one.probe_in == 0}
        assert session.connection().execute(sqlalchemy.select(SCOPE.c.id)).scalars().all()
    assert due == {"open_ai/default", "open_ai/default/gpt-4o"}
