from pathlib import Path

import pytest

from worker import settings


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)


def test_nothing_needs_to_be_set():
    found = settings.load()
    assert found.home.is_absolute()
    assert found.home.name == "gristmill"
    assert found.database == f"sqlite:///{found.home}/gristmill.db"
    assert found.redis_url is None
    assert found.broker is None
    assert found.config is None


def test_home_is_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("GRISTMILL_HOME", "state")
    assert settings.load().home == tmp_path / "state"


def test_the_configuration_of_the_working_directory_is_found(tmp_path: Path):
    (tmp_path / "gristmill.yaml").touch()
    assert settings.load().config == tmp_path / "gristmill.yaml"


def test_an_empty_config_means_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "gristmill.yaml").touch()
    monkeypatch.setenv("GRISTMILL_CONFIG", "")
    assert settings.load().config is None


def test_a_child_reads_the_same_settings_from_anywhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "gristmill.yaml").touch()
    monkeypatch.setenv("GRISTMILL_HOME", "state")
    mine = settings.load()
    for name, value in mine.child_environment(GRISTMILL_REDIS_URL="unix:///run/valkey.sock").items():
        monkeypatch.setenv(name, value)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    child = settings.load()
    assert (child.home, child.config) == (mine.home, mine.config)
    assert child.broker == "redis+socket:///run/valkey.sock"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_postgres_is_reached_by_psycopg(monkeypatch: pytest.MonkeyPatch, scheme: str):
    monkeypatch.setenv("GRISTMILL_DATABASE_URL", f"{scheme}://mill@db/mill")
    assert settings.load().database == "postgresql+psycopg://mill@db/mill"


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"HEARTBEAT_SECONDS": "30"}, "GRISTMILL_HEARTBEAT_SECONDS=30 is more than half of GRISTMILL_LEASE_SECONDS=45"),
        ({"LEASE_SECONDS": "0"}, "GRISTMILL_LEASE_SECONDS"),
        ({"CALL_TIMEOUT_SECONDS": "3600"}, "GRISTMILL_CALL_TIMEOUT_SECONDS"),
        ({"DATABASE_URL": "mysql://db"}, "GRISTMILL_DATABASE_URL is neither"),
        ({"DATABASE_URL": "sqlite:///mill.db"}, "GRISTMILL_DATABASE_URL needs an absolute path"),
        ({"REDIS_URL": "localhost:6379"}, "GRISTMILL_REDIS_URL does not start with"),
        ({"BROKER_URL": "sqs://"}, "GRISTMILL_BROKER_URL does not start with"),
        ({"STRICT_WINDOW": "true", "WINDOW_SECONDS": "60"}, "exclude each other"),
    ],
)
def test_what_cannot_be_meant_or_is_unsafe_is_refused(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], reason: str
):
    for name, value in variables.items():
        monkeypatch.setenv(f"GRISTMILL_{name}", value)
    with pytest.raises(settings.SettingsError, match=reason):
        settings.load()


def test_a_fault_never_repeats_a_password(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRISTMILL_DATABASE_URL", "mysql://mill:hunter2@db")
    with pytest.raises(settings.SettingsError) as caught:
        settings.load()
    assert "hunter2" not in str(caught.value)


def test_a_strict_window_is_a_day(monkeypatch: pytest.MonkeyPatch):
    assert settings.load().day_window_seconds == 7 * 86_400
    monkeypatch.setenv("GRISTMILL_STRICT_WINDOW", "true")
    assert settings.load().day_window_seconds == 86_400


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SOME_KEY", "")
    assert settings.environment_value("SOME_KEY") is None


def test_a_url_with_a_password_may_stand_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "url").write_text("postgresql://mill:hidden@db/mill\n")
    monkeypatch.setenv("GRISTMILL_DATABASE_URL_FILE", str(tmp_path / "url"))
    assert settings.load().database == "postgresql+psycopg://mill:hidden@db/mill"
    assert "hidden" not in repr(settings.load())
    monkeypatch.setenv("GRISTMILL_DATABASE_URL", "sqlite:////srv/mill.db")
    assert settings.load().database == "sqlite:////srv/mill.db"


def test_a_file_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRISTMILL_REDIS_URL_FILE", "/nowhere/url")
    with pytest.raises(settings.SettingsError, match="GRISTMILL_REDIS_URL_FILE: /nowhere/url cannot be read"):
        settings.load()
