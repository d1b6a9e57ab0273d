from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlmodel import Session

from worker import master_key, rotation, settings
from worker.database import Database
from worker.store import sealing, webhooks
from worker.tables import ENDPOINT, WebhookEndpoint, WebhookSecret
from worker.vault import Sealed, Vault

COLUMNS = (ENDPOINT.c.secret, ENDPOINT.c.old_secret)


@pytest.fixture
def vault(home: Path) -> Vault:
    return Vault(settings.load())


@pytest.fixture
def safe(database_url: str, vault: Vault) -> Iterator[Database]:
    """The database of a server that has a master key, or makes one."""
    safe = Database(database_url, vault)
    yield safe
    safe.close()


def endpoint(database: Database) -> WebhookEndpoint:
    """With a secret and an old one."""

    def make(session: Session) -> WebhookEndpoint:
        made = webhooks.create(session, "local", name="n", url="http://127.0.0.1:9/", event_types=["batch.completed"])
        rotated = webhooks.rotate(session, "local", made.id, keep_old=True)
        assert rotated is not None
        session.merge(WebhookSecret(owner="local", secret="whsec_of_the_owner", created_at=1, updated_at=1))
        return rotated

    return database.write(make)


def secrets(database: Database, id: str) -> tuple[str | None, str | None]:
    with database.read() as session:
        row = session.get_one(WebhookEndpoint, id)
        return row.secret, row.old_secret


def stored(database: Database) -> str:
    """What the tables hold, as whoever copies them sees it."""
    with database.read() as session:
        rows: list[Any] = []
        for table in ("webhook_endpoint", "webhook_secret"):
            rows += session.connection().execute(sqlalchemy.text(f"SELECT * FROM {table}")).all()
    return str(rows)


def test_a_secret_is_encrypted_in_the_table_and_plain_in_python(safe: Database) -> None:
    made = endpoint(safe)
    assert str(made.secret).startswith("whsec_")
    assert secrets(safe, made.id) == (made.secret, made.old_secret)
    assert "whsec_" not in stored(safe)


def test_what_was_stored_plain_is_read_and_encrypted_later(database: Database, safe: Database, vault: Vault) -> None:
    made = endpoint(database)
    assert stored(database).count("whsec_") == 3
    assert secrets(safe, made.id) == (made.secret, made.old_secret)
    assert safe.write(lambda session: sealing.seal_plain(session, vault)) == 3
    assert safe.write(lambda session: sealing.seal_plain(session, vault)) == 0
    assert "whsec_" not in stored(safe)
    assert secrets(safe, made.id) == (made.secret, made.old_secret)


def test_a_change_of_the_master_key_takes_them_along(safe: Database, vault: Vault) -> None:
    made = endpoint(safe)
    old = vault.master_key.read()
    assert rotation.rotate(safe, vault) == 3
    assert vault.master_key.read() != old
    assert secrets(safe, made.id) == (made.secret, made.old_secret)


def test_with_another_master_key_the_rows_are_still_shown(safe: Database, vault: Vault, database_url: str) -> None:
    made = endpoint(safe)
    vault.master_key.keep((master_key.new(),))
    stranger = Vault(settings.load())
    other = Database(database_url, stranger)
    assert secrets(other, made.id) == ("", "")
    before = stored(other)
    with pytest.raises(Sealed, match="webhook secret"):
        other.write(lambda session: sealing.reseal(session, stranger))
    assert stored(other) == before
    other.close()


def test_without_a_master_key_they_stay_as_they_are(
    database_url: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRISTMILL_DATABASE_URL", "postgresql://db/mill")
    vault = Vault(settings.load())
    external = Database(database_url, vault)
    made = endpoint(external)
    assert external.write(lambda session: sealing.seal_plain(session, vault)) == 0
    assert str(made.secret) in stored(external) and secrets(external, made.id)[0] == made.secret
    external.close()
