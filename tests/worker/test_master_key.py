import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from worker import master_key, settings
from worker.master_key import MasterKey, MasterKeyMissing, MasterKeyUnusable

STANDARD = "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA="
"""As openssl prints them; some have + and /, which Fernet wants as - and _."""


def load() -> MasterKey:
    return MasterKey(settings.load())


def test_home_makes_its_own_once_and_for_its_owner_alone(home: Path) -> None:
    assert load().may_be_made and load().read() == ()
    with ThreadPoolExecutor(8) as pool:
        made = {pool.submit(lambda: load().read_or_make()) for _ in range(8)}
    assert len({one.result() for one in made}) == 1
    assert stat.S_IMODE((home / master_key.FILE).stat().st_mode) == 0o600
    assert sorted(path.name for path in home.iterdir() if master_key.FILE in path.name) == [master_key.FILE]


def test_an_external_database_needs_one_that_was_given(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRISTMILL_DATABASE_URL", "postgresql://db/mill")
    with pytest.raises(MasterKeyMissing, match="GRISTMILL_MASTER_KEY"):
        load().read_or_make()
    assert not (home / master_key.FILE).exists()


def test_the_variable_comes_before_the_file_and_may_hold_two(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text(STANDARD + "\n")
    monkeypatch.setenv("GRISTMILL_MASTER_KEY_FILE", str(tmp_path / "key"))
    assert load().read() == (STANDARD,)
    new = master_key.new()
    monkeypatch.setenv("GRISTMILL_MASTER_KEY", f"{new},{STANDARD}")
    assert load().read() == (new, STANDARD)
    assert new not in repr(settings.load()) and not load().is_in_home


@pytest.mark.parametrize("text", ["short", "x" * 44, "passw\u00f6rd", STANDARD[:-4], f"{STANDARD},oops"])
def test_what_is_no_key_is_refused_without_being_shown(home: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRISTMILL_MASTER_KEY", text)
    with pytest.raises(MasterKeyUnusable, match="openssl rand -base64 32") as caught:
        load().read()
    assert text not in str(caught.value)


def test_both_alphabets_of_base64_are_understood(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRISTMILL_MASTER_KEY", "++//" * 10 + "+/8=")
    assert load().read() == ("--__" * 10 + "-_8=",)
