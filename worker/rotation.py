"""Changing the master key."""

from worker.database import Database
from worker.master_key import MasterKeyError
from worker.store import provider_keys, sealing
from worker.vault import Vault


class OneMasterKey(MasterKeyError):
    """Only the key in use was given."""

    def __init__(self) -> None:
        super().__init__(
            "The master key is yours to change: give all our processes the new one and the old one, "
            "GRISTMILL_MASTER_KEY=NEW,OLD (or both in its file), restart them, and run this command once more. "
            "'openssl rand -base64 32' makes a new one."
        )


def rotate(database: Database, vault: Vault) -> int:
    """Encrypt everything with the newest master key, of home with a new one; how many secrets.

    Raises MasterKeyError, or Sealed, and then nothing was changed. Killed at any point, all stays readable.
    """
    master_key = vault.master_key
    if master_key.is_in_home:
        keys = master_key.add()
    elif len(keys := master_key.read_or_make()) < 2:
        raise OneMasterKey
    count = database.write(
        lambda session: provider_keys.reseal(session, vault) + sealing.reseal(session, vault),
    )
    if master_key.is_in_home:
        master_key.keep(keys[:1])
    return count
