"""The master key: what encrypts the secrets in the database, and the one secret that is never there."""

import base64
import binascii
import os
import secrets
import tempfile
from pathlib import Path

from worker import secret_file
from worker.secret_file import SecretFileError
from worker.settings import Settings

FILE = "master.key"
KEY_BYTES = 32

# MasterKeyError
# ├── MasterKeyMissing    there is none, and none may be made here
# └── MasterKeyUnusable   what was given is none, or cannot be read


class MasterKeyError(Exception):
    """Secrets cannot be stored or read."""


class MasterKeyMissing(MasterKeyError):
    """There is none, and none may be made here."""

    def __init__(self) -> None:
        super().__init__(
            "Secrets in an external database need a master key that all machines share: set GRISTMILL_MASTER_KEY, or "
            "GRISTMILL_MASTER_KEY_FILE, to the output of 'openssl rand -base64 32'."
        )


class MasterKeyUnusable(MasterKeyError):
    """What was given is none, or cannot be read."""


class MasterKey:
    """From GRISTMILL_MASTER_KEY, its file, or home. It may be several keys while it is being changed, newest first."""

    def __init__(self, settings: Settings) -> None:
        self._said = settings.master_key
        self._file = settings.master_key_file
        self._is_embedded = settings.database.startswith("sqlite")
        self._home = settings.home / FILE

    @property
    def is_in_home(self) -> bool:
        """Whether it is ours to make and to change."""
        return self._is_embedded and self._said is None and self._file is None

    @property
    def may_be_made(self) -> bool:
        return self.is_in_home and not self._home.exists()

    @property
    def file(self) -> Path | None:
        """Where it is read from, if from a file."""
        return None if self._said is not None else self._file or (self._home if self._is_embedded else None)

    def read(self) -> tuple[str, ...]:
        """The keys, newest first; none if there is none. Reads the file anew. Raises MasterKeyUnusable."""
        if self._said is not None:
            return _split(self._said.get_secret_value(), "GRISTMILL_MASTER_KEY")
        if self._file is None and (not self._is_embedded or not self._home.exists()):
            return ()
        path = self._file or self._home
        try:
            return _split(secret_file.read(path), str(path))
        except SecretFileError as error:
            raise MasterKeyUnusable(f"The master key cannot be read: {error}.") from None

    def read_or_make(self) -> tuple[str, ...]:
        """An embedded Gristmill makes its own at first use. Raises MasterKeyError."""
        if self.may_be_made:
            self._make()
        keys = self.read()
        if not keys:
            raise MasterKeyMissing
        return keys

    def add(self) -> tuple[str, ...]:
        """A new one in home, before those that are there."""
        keys = (new(), *self.read())
        self.keep(keys)
        return keys

    def keep(self, keys: tuple[str, ...]) -> None:
        """Write these to home, in one step: readers see the old ones or these."""
        os.replace(self._written(keys), self._home)

    def _make(self) -> None:
        """Of two processes that make it at once, one does."""
        path = self._written((new(),))
        try:
            os.link(path, self._home)
        except FileExistsError:
            return
        finally:
            path.unlink()

    def _written(self, keys: tuple[str, ...]) -> Path:
        descriptor, name = tempfile.mkstemp(dir=self._home.parent, prefix=f".{FILE}.")
        with os.fdopen(descriptor, "w") as file:
            file.write("\n".join(keys) + "\n")
            file.flush()
            os.fsync(file.fileno())
        return Path(name)


def new() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def _split(text: str, place: str) -> tuple[str, ...]:
    """Both alphabets of base64, with commas or white space between."""
    keys = tuple(text.replace(",", " ").replace("+", "-").replace("/", "_").split())
    if not keys or not all(map(_is_key, keys)):
        raise MasterKeyUnusable(
            f"{place} holds no master key: it is {KEY_BYTES} random bytes in base64, as 'openssl rand -base64 32' "
            "makes them (while it is being changed: the new one, a comma, the old one)."
        )
    return keys


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, altchars=b"-_", validate=True)) == KEY_BYTES
    except (binascii.Error, ValueError):
        return False
