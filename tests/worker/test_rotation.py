from pathlib import Path

import pytest

from worker import master_key, rotation, settings
from worker.database import Database
from worker.rotation import OneMasterKey
from worker.store import provider_keys
from worker.vault import Sealed, Vault


def put(database: Database, vault: Vault) -> None:
    database.write(lambda session: provider_keys.put(session, vault, "openai", "default", "sk-mine"))


def opened(database: Database) -> str | None:
    with database.read() as session:
        [key] = provider_keys.opened(Vault(settings.load()), provider_keys.rows(session)).values()
    return key.value


def test_home_gets_a_new_key_and_forgets_the_old_one(home: Path, database: Database) -> None:
    vault = Vault(settings.load())
    put(database, vault)
    old = vault.master_key.read()
    assert rotation.rotate(database, vault) == 1
    [new] = vault.master_key.read()
    assert (new,) != old and opened(database) == "sk-mine"


def test_what_cannot_be_read_stops_it_and_all_stays_readable(home: Path, database: Database) -> None:
    vault = Vault(settings.load())
    put(database, vault)
    old = vault.master_key.read()
    vault.master_key.keep((master_key.new(),))
    with pytest.raises(Sealed, match="provider/openai/default"):
        rotation.rotate(database, Vault(settings.load()))
    vault.master_key.keep((*vault.master_key.read(), *old))
    assert opened(database) == "sk-mine"


def test_a_key_of_ones_own_is_changed_by_giving_both(
    home: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = master_key.new(), master_key.new()
    monkeypatch.setenv("GRISTMILL_MASTER_KEY", old)
    put(database, Vault(settings.load()))
    with pytest.raises(OneMasterKey, match="NEW,OLD"):
        rotation.rotate(database, Vault(settings.load()))
    monkeypatch.setenv("GRISTMILL_MASTER_KEY", f"{new},{old}")
    assert rotation.rotate(database, Vault(settings.load())) == 1
    monkeypatch.setenv("GRISTMILL_MASTER_KEY", new)
    assert opened(database) == "sk-mine"
    assert not (home / master_key.FILE).exists()
