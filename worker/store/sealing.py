"""Sealed columns as a whole: encrypted when there is a master key at last, and again when it changes."""

from typing import Any

from sqlalchemy import String, select, tuple_, type_coerce, update
from sqlmodel import Session

from worker.tables import sealed
from worker.vault import Vault


def seal_plain(session: Session, vault: Vault) -> int:
    """Encrypt what an older version, or a server without a master key, has stored in plain text; how many."""
    return _rewrite(session, vault, only_plain=True) if vault.can_seal else 0


def reseal(session: Session, vault: Vault) -> int:
    """Encrypt all with the newest master key; how many. Raises Sealed, and then nothing is changed."""
    return _rewrite(session, vault, only_plain=False)


def _rewrite(session: Session, vault: Vault, *, only_plain: bool) -> int:
    count = 0
    for table, column in sealed.columns():
        stored, key = type_coerce(column, String), tuple(table.primary_key)
        wanted = [column.is_not(None), stored != ""]
        if only_plain:
            wanted.append(~stored.startswith(sealed.MARK))
        rows: Any = session.connection().execute(select(stored, *key).where(*wanted)).all()
        for value, *place in rows:
            changed = sealed.seal(vault, sealed.unseal(vault, value))
            here = (tuple_(*key) == tuple_(*place), stored == value)
            statement = update(table).where(*here).values({column: type_coerce(changed, String)})
            count += session.connection().execute(statement).rowcount
    return count
