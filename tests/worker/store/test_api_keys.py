import re

import pytest

from worker.database import Database
from worker.store import api_keys
from worker.store.api_keys import NameTaken, NoSuchKey, SeveralKeys
from worker.tables import API_KEY, ApiKey


def made(database: Database, name: str = "ann", owner: str = "ann", **rules: float) -> tuple[ApiKey, str]:
    return database.write(lambda session: api_keys.create(session, name, owner, **rules))  # type: ignore[arg-type]


def found(database: Database, secret: str) -> api_keys.Holder | None:
    with database.read() as session:
        return api_keys.find(session, secret)


def revoke(database: Database, key: str) -> ApiKey:
    return database.write(lambda session: api_keys.revoke(session, key))


def test_a_secret_is_shown_once_and_stored_nowhere(database: Database) -> None:
    key, secret = made(database)
    assert re.fullmatch("gm-[0-9a-f]{64}", secret) and secret.endswith(key.hint)
    with database.read() as session:
        row = session.connection().execute(API_KEY.select()).one()
    assert secret[3:] not in str(row._mapping)


def test_a_secret_finds_its_key_and_no_other_text_does(database: Database) -> None:
    (key, secret), (_, other) = made(database), made(database, "bob")
    for _ in range(2):
        holder = found(database, secret)
        assert holder is not None and (holder.id, holder.owner, holder.refused) == (key.id, "ann", None)
    for text in ("", "gm-", secret[:-1], secret.upper(), f" {secret}", key.hash, key.id, "\udcff"):
        assert found(database, text) is None
    assert found(database, other) != found(database, secret)


def test_a_revoked_key_and_an_expired_one_say_so(database: Database) -> None:
    key, secret = made(database)
    _, late = made(database, "late", expires_at=1.0)
    revoke(database, key.id)
    first = revoke(database, key.id).revoked_at
    assert first is not None and revoke(database, "ann").revoked_at == first
    assert [holder and holder.refused for holder in (found(database, secret), found(database, late))] == [
        "revoked",
        "expired",
    ]


def test_a_name_is_taken_until_its_key_is_revoked(database: Database) -> None:
    made(database)
    with pytest.raises(NameTaken):
        made(database)
    revoke(database, "ann")
    second, _ = made(database)
    assert revoke(database, "ann").id == second.id
    with pytest.raises(SeveralKeys):
        revoke(database, "ann")
    with pytest.raises(NoSuchKey):
        revoke(database, "bob")


def test_there_was_a_key_also_when_all_are_revoked(database: Database) -> None:
    with database.read() as session:
        assert not api_keys.any_ever(session)
    revoke(database, made(database)[0].id)
    with database.read() as session:
        assert api_keys.any_ever(session)


def test_a_use_is_noted(database: Database) -> None:
    key, _ = made(database)
    with database.read() as session:
        assert not api_keys.is_use_noted(session, key.id)
    database.write(lambda session: api_keys.note_use(session, key.id))
    with database.read() as session:
        assert api_keys.is_use_noted(session, key.id)
