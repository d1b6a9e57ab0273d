from pathlib import Path

import pytest

from tests.polling import until
from worker import settings
from worker.database import Database
from worker.routes import MissingKey
from worker.store import provider_keys
from worker.vault import Vault
from worker.wiring import Wiring, wire


@pytest.fixture
def wiring(home: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Wiring:
    monkeypatch.setenv("GRISTMILL_DATABASE_URL", database_url)
    monkeypatch.setenv("GRISTMILL_CONFIG", "")
    monkeypatch.setenv("GRISTMILL_MASTER_KEY", "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=")
    return wire(settings.load())


def key(wiring: Wiring) -> str | None:
    [deployment] = wiring.catalog.resolve("openai/gpt-4o").deployments
    return deployment.api_key.reveal() if deployment.api_key else None


def test_a_key_is_seen_when_it_is_set_changed_and_removed(wiring: Wiring, database: Database) -> None:
    vault = Vault(wiring.settings)
    assert not wiring.keys.look()
    for value in ("sk-one", "sk-two"):
        database.write(lambda session, value=value: provider_keys.put(session, vault, "openai", "default", value))  # type: ignore[misc]
        assert wiring.keys.look() and not wiring.keys.look()
        assert key(wiring) == value
    [before] = wiring.catalog.resolve("openai/gpt-4o").deployments
    assert wiring.catalog.serves("openai/gpt-4o", before)
    database.write(lambda session: provider_keys.remove(session, "openai", "default"))
    assert wiring.keys.look()
    assert not wiring.catalog.serves("openai/gpt-4o", before)
    with pytest.raises(MissingKey, match="gristmill providers set-key openai"):
        key(wiring)
    wiring.database.close()


def test_a_key_in_a_file_is_read_again_when_the_file_changes(
    home: Path, tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key"
    path.write_text("sk-one")
    monkeypatch.setenv("GRISTMILL_DATABASE_URL", database_url)
    monkeypatch.setenv("GRISTMILL_CONFIG", "")
    monkeypatch.setenv("OPENAI_API_KEY_FILE", str(path))
    wiring = wire(settings.load())
    assert key(wiring) == "sk-one" and not wiring.keys.look()
    (tmp_path / "new").write_text("sk-other")
    (tmp_path / "new").rename(path)
    assert wiring.keys.look() and key(wiring) == "sk-other"
    wiring.database.close()


def test_an_edit_of_the_configuration_reaches_limits_prices_and_aliases(
    home: Path, tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "gristmill.yaml"
    path.write_text("providers: {simulator: {rpm: 60}}")
    monkeypatch.setenv("GRISTMILL_DATABASE_URL", database_url)
    monkeypatch.setenv("GRISTMILL_CONFIG", str(path))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-one")
    wiring = wire(settings.load())
    catalog = wiring.catalog
    [before] = catalog.resolve("openai/gpt-none").deployments
    assert not wiring.keys.look() and catalog.token_prices("openai/gpt-none") == (None, None)
    path.write_text(
        "providers: {openai: {rpm: 30, timeout: 5, concurrency: 3}}\n"
        "models: {judge: openai/gpt-none}\n"
        "prices: {openai/gpt-none: {input: 2, output: 4}}\n"
    )
    until(wiring.keys.look)
    [deployment] = catalog.resolve("judge").deployments
    assert (catalog.limits(deployment).requests_per_minute, catalog.limits(deployment).concurrency) == (30, 3)
    assert deployment.timeout == 5 and before.timeout != 5
    assert catalog.token_prices("judge") == (2_000_000, 4_000_000)
    assert wiring.config.providers.keys() == {"openai", "simulator"}
    path.write_text("providers: {openai: {rpm: none}}")
    until(lambda: not wiring.keys.look() and wiring.configuration.fault)
    assert catalog.limits(deployment).requests_per_minute == 30
    wiring.database.close()
