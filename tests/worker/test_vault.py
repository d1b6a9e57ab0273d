from pathlib import Path

import pytest

from worker import master_key, settings
from worker.vault import Sealed, Vault

SECRET = "sk-0123456789-abcd"


@pytest.fixture
def vault(home: Path) -> Vault:
    return Vault(settings.load())


def test_what_is_sealed_can_be_opened_and_does_not_show(vault: Vault) -> None:
    sealed = vault.seal("provider/openai/default", SECRET)
    assert SECRET not in sealed
    assert vault.open("provider/openai/default", sealed) == SECRET
    assert vault.seal("provider/openai/default", SECRET) != sealed


def test_a_secret_moved_to_another_name_is_refused(vault: Vault) -> None:
    sealed = vault.seal("provider/openai/default", SECRET)
    with pytest.raises(Sealed, match="provider/elsewhere/default"):
        vault.open("provider/elsewhere/default", sealed)


def test_another_master_key_says_what_cannot_be_read(vault: Vault, home: Path) -> None:
    sealed = vault.seal("provider/openai/default", SECRET)
    (home / master_key.FILE).write_text(master_key.new())
    with pytest.raises(Sealed, match=r"provider/openai/default was encrypted with another .*master\.key") as caught:
        Vault(settings.load()).open("provider/openai/default", sealed)
    assert SECRET not in str(caught.value)


def test_a_lost_master_key_is_told_and_reading_makes_none(vault: Vault, home: Path) -> None:
    sealed = vault.seal("a", SECRET)
    (home / master_key.FILE).unlink()
    with pytest.raises(Sealed, match="there is no master key"):
        Vault(settings.load()).open("a", sealed)
    assert not (home / master_key.FILE).exists()


def test_a_key_that_was_changed_by_another_process_is_read_anew(vault: Vault) -> None:
    other = Vault(settings.load())
    assert other.open("a", vault.seal("a", SECRET)) == SECRET
    vault.master_key.keep((master_key.new(),))
    assert other.open("a", vault.seal("a", SECRET)) == SECRET
    assert vault.open("a", other.seal("a", SECRET)) == SECRET


def test_garbage_is_refused(vault: Vault) -> None:
    vault.seal("a", SECRET)
    with pytest.raises(Sealed):
        vault.open("a", "garbage \u2028")
