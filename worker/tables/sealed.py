"""A column whose text is encrypted in the database and plain in Python."""

from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Column, Dialect, String, Table
from sqlalchemy.types import TypeDecorator
from sqlmodel import SQLModel
from typing_extensions import override

from worker.vault import Sealed, Vault

MARK = "sealed:"
"""What stands before it; text without it was stored before there was a master key."""
UNREADABLE = ""
"""What one reads of a secret that was encrypted with another master key: such a row must still be shown and mended."""

_vaults: "WeakKeyDictionary[Dialect, Vault]" = WeakKeyDictionary()


class SealedText(TypeDecorator[str]):
    """Plain where the engine has no vault, or the vault no master key."""

    impl = String
    cache_ok = True

    @override
    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        vault = _vaults.get(dialect)
        return value if not value or vault is None or not vault.can_seal else seal(vault, value)

    @override
    def process_result_value(self, value: Any | None, dialect: Dialect) -> str | None:
        if not isinstance(value, str) or not value.startswith(MARK):
            return value
        vault = _vaults.get(dialect)
        try:
            return UNREADABLE if vault is None else unseal(vault, value)
        except Sealed:
            return UNREADABLE


def use(dialect: Dialect, vault: Vault) -> None:
    """From now on the engine of this dialect seals and opens."""
    _vaults[dialect] = vault


def columns() -> list[tuple[Table, Column[str]]]:
    """Every column that is sealed."""
    tables = SQLModel.metadata.sorted_tables
    return [(table, column) for table in tables for column in table.c if isinstance(column.type, SealedText)]


def seal(vault: Vault, text: str) -> str:
    return MARK + vault.seal("webhook secret", text)


def unseal(vault: Vault, stored: str) -> str:
    """Raises Sealed."""
    return vault.open("webhook secret", stored.removeprefix(MARK)) if stored.startswith(MARK) else stored
