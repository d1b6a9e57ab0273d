"""Seals secrets for the database and opens them again (Fernet: AES-128-CBC with HMAC-SHA256)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.master_key import MasterKey, MasterKeyError
from worker.settings import Settings

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet


class Sealed(Exception):
    """A secret in the database cannot be read. The message says which and what to do."""


class Vault:
    """One process's. Keys are read at first use; a key in a file may be changed while it is at work."""

    def __init__(self, settings: Settings) -> None:
        self.master_key = MasterKey(settings)
        self._opener: MultiFernet | None = None

    @property
    def can_seal(self) -> bool:
        """Whether there is a master key, or one may be made."""
        return self.master_key.may_be_made or bool(self.master_key.read())

    def seal(self, name: str, text: str) -> str:
        """What may be stored under this name, and under no other. Raises MasterKeyError."""
        # The key is read anew: whoever seals with one that is being abandoned would write what nobody can read.
        self._opener = _fernet(self.master_key.read_or_make())
        return self._opener.encrypt(f"{name}\n{text}".encode()).decode()

    def open(self, name: str, sealed: str) -> str:
        """Raises Sealed."""
        found = self._try(self._opener, sealed)
        if found is None:
            try:
                keys = self.master_key.read()
            except MasterKeyError as error:
                raise Sealed(f"{name} cannot be read: {error}") from None
            self._opener = _fernet(keys) if keys else None
            found = self._try(self._opener, sealed)
        owner, separator, text = (found or "").partition("\n")
        if not separator or owner != name:
            raise Sealed(f"{name} {self._reason()}")
        return text

    def _reason(self) -> str:
        place = self.master_key.file or "GRISTMILL_MASTER_KEY"
        if self._opener is None:
            return f"is encrypted, and there is no master key in {place}: put it back, or set the secret again"
        return f"was encrypted with another master key than that in {place}: put it back, or set the secret again"

    def _try(self, opener: MultiFernet | None, sealed: str) -> str | None:
        from cryptography.fernet import InvalidToken

        try:
            return None if opener is None else opener.decrypt(sealed.encode()).decode()
        except InvalidToken:
            return None


def _fernet(keys: tuple[str, ...]) -> MultiFernet:
    # Imported at first use: 20 ms and 4 MB that a process without secrets does not need.
    from cryptography.fernet import Fernet, MultiFernet

    return MultiFernet([Fernet(key) for key in keys])
