"""Keys of providers in the database, encrypted."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlmodel import Session, col
from sqlmodel import select as select_model

from worker import clock, provider_key
from worker.provider_key import ProviderKey, Source, Stored
from worker.store import scopes
from worker.tables import SECRET
from worker.tables.secrets import Secret
from worker.vault import Sealed, Vault

PREFIX = "provider/"


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """What may be told of a key."""

    provider: str
    account: str
    hint: str
    changed_at: float


Rows = tuple[tuple[str, str], ...]


def put(session: Session, vault: Vault, provider: str, account: str, value: str) -> None:
    """Set or replace; what rests for the old key's sake is probed at once. Raises MasterKeyError."""
    name = _name(provider, account)
    now = float(session.connection().execute(select(clock.now())).scalar_one())
    row = session.get(Secret, name, with_for_update=True)
    if row is None:
        row = Secret(name=name, owner="operator", sealed="", hint="", created_at=now, changed_at=now)
    row.sealed, row.hint, row.changed_at = vault.seal(name, value), provider_key.hint(value), now
    session.add(row)
    scopes.probe_account(session, provider, account)


def remove(session: Session, provider: str, account: str) -> bool:
    removed = session.connection().execute(delete(SECRET).where(SECRET.c.name == _name(provider, account)))
    return removed.rowcount == 1


def entries(session: Session) -> list[Entry]:
    found = session.exec(select_model(Secret).where(col(Secret.name).startswith(PREFIX)).order_by(Secret.name))
    return [
        Entry(provider=provider, account=account, hint=row.hint, changed_at=row.changed_at)
        for row in found
        for provider, account in [_parts(row.name)]
    ]


def rows(session: Session) -> Rows:
    """All of them, still encrypted: they differ when any key was set, changed or removed."""
    statement = select(SECRET.c.name, SECRET.c.sealed).where(SECRET.c.name.startswith(PREFIX)).order_by(SECRET.c.name)
    return tuple((row.name, row.sealed) for row in session.connection().execute(statement))


def opened(vault: Vault, rows: Rows) -> Stored:
    """One that cannot be read says so, and hinders no other."""
    return {_parts(name): _opened(vault, name, sealed) for name, sealed in rows}


def reseal(session: Session, vault: Vault) -> int:
    """Encrypt all with the newest master key; how many. Raises Sealed, and then nothing is changed."""
    found: Sequence[Secret] = session.exec(select_model(Secret).with_for_update()).all()
    for row in found:
        row.sealed = vault.seal(row.name, vault.open(row.name, row.sealed))
        session.add(row)
    return len(found)


def _opened(vault: Vault, name: str, sealed: str) -> ProviderKey:
    account = _parts(name)[1]
    try:
        return ProviderKey(source=Source.DATABASE, place=account, value=vault.open(name, sealed))
    except Sealed as error:
        return ProviderKey(source=Source.DATABASE, place=account, fault=str(error))


def _name(provider: str, account: str) -> str:
    return f"{PREFIX}{provider}/{account}"


def _parts(name: str) -> tuple[str, str]:
    _, provider, account = name.split("/")
    return provider, account
