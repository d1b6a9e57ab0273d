import io
import sys
from pathlib import Path

import pytest

from tests.api.cli.conftest import Finished, Gristmill
from tests.postgres import Postgres
from worker import master_key

KEY = "sk-0123456789-abcd"


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def set_key(gristmill: Gristmill, monkeypatch: pytest.MonkeyPatch, *arguments: str, key: str = KEY) -> Finished:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{key}\n"))
    return gristmill("providers", "set-key", *arguments)


def listed(gristmill: Gristmill) -> list[list[str]]:
    return [line.split() for line in gristmill("providers", "list-keys").out.splitlines()[1:]]


def test_a_key_is_set_listed_and_removed_and_never_shown(gristmill: Gristmill, monkeypatch: pytest.MonkeyPatch) -> None:
    done = set_key(gristmill, monkeypatch, "openai")
    assert (done.status, done.err) == (0, "")
    assert "Stored the key of openai (...abcd)" in done.out
    [row] = listed(gristmill)
    assert (row[:4], row[-1]) == (["openai", "default", "database", "...abcd"], "yes")
    doctor = gristmill("doctor")
    assert "provider openai: key present (from database default)" in doctor.out
    table = gristmill("providers").out
    assert "from database default" in table
    assert KEY not in done.out + table + doctor.out + str(row)
    assert gristmill("providers", "remove-key", "openai").status == 0
    assert listed(gristmill) == []
    assert "OPENAI_API_KEY is not set" in gristmill("providers").out


def test_a_key_that_the_environment_hides_is_told(gristmill: Gristmill, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-9876543210-wxyz")
    assert "the key from environment OPENAI_API_KEY hides it" in set_key(gristmill, monkeypatch, "openai").err
    shown = gristmill("providers", "list-keys").out
    assert "no: hidden by environment OPENAI_API_KEY" in shown and "...wxyz" in shown
    assert "which hides the one from database default" in gristmill("doctor").out
    assert "now uses the key from environment" in gristmill("providers", "remove-key", "openai").err


def test_an_account_is_used_when_the_configuration_says_so(
    gristmill: Gristmill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "account: work" in set_key(gristmill, monkeypatch, "openai", "--account", "work").err
    assert listed(gristmill)[0][-3:] == ["no:", "not", "configured"]
    (tmp_path / "gristmill.yaml").write_text("providers:\n  openai: {account: work}\n")
    assert listed(gristmill)[0][-1] == "yes"


@pytest.mark.parametrize(
    ("arguments", "key", "reason"),
    [
        (["opnai"], KEY, "known are openai"),
        (["openai"], "", "not empty"),
        (["openai"], "sk with spaces", "without spaces"),
        (["openai", "--account", "a/b"], KEY, "letters, digits"),
    ],
)
def test_what_cannot_be_stored_is_refused(
    gristmill: Gristmill, monkeypatch: pytest.MonkeyPatch, arguments: list[str], key: str, reason: str
) -> None:
    done = set_key(gristmill, monkeypatch, *arguments, key=key)
    assert (done.status, listed(gristmill)) == (2, [])
    assert reason in done.err and "with spaces" not in done.err.replace("without spaces", "")


def test_a_key_is_not_taken_as_an_argument(gristmill: Gristmill) -> None:
    assert gristmill("providers", "set-key", "openai", KEY).status == 2


def test_there_must_be_one_to_remove(gristmill: Gristmill) -> None:
    done = gristmill("providers", "remove-key", "openai")
    assert (done.status, "no key of openai" in done.err) == (2, True)


def test_the_master_key_is_changed(gristmill: Gristmill, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_key(gristmill, monkeypatch, "openai")
    old = (home / "master.key").read_text()
    assert "Encrypted 1 secret" in gristmill("providers", "rotate-master-key").out
    assert (home / "master.key").read_text() != old
    assert listed(gristmill)[0][-1] == "yes"
    (home / "master.key").write_text(old)
    assert "another master key" in gristmill("providers", "list-keys").out
    assert gristmill("doctor").status == 1


def test_an_external_database_wants_a_master_key_that_all_machines_share(
    gristmill: Gristmill, postgres: Postgres, postgres_template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRISTMILL_DATABASE_URL", postgres.create("mill_keys", template=postgres_template))
    done = set_key(gristmill, monkeypatch, "openai")
    assert (done.status, listed(gristmill)) == (2, [])
    assert "GRISTMILL_MASTER_KEY" in done.err
    monkeypatch.setenv("GRISTMILL_MASTER_KEY", master_key.new())
    assert set_key(gristmill, monkeypatch, "openai").status == 0
    assert listed(gristmill)[0][-1] == "yes"
    postgres.drop("mill_keys")


def test_a_password_in_an_address_is_not_shown(gristmill: Gristmill, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://me:hidden@gpu-7:8000/v1")
    told = gristmill("providers").out + set_key(gristmill, monkeypatch, "openai").err
    assert told.count("http://gpu-7:8000/v1") == 2 and "hidden" not in told
