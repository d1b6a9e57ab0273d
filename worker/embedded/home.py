"""GRISTMILL_HOME: all state of an embedded Gristmill, readable by its owner alone."""

import errno
import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from worker.embedded import filesystem

LEAST_FREE_BYTES = 64 * 1024 * 1024
LOCK_PATIENCE_SECONDS = 0.5
"""To ask whether a server lives, a command holds the lock for an instant: that must not refuse a server."""
OURS = ("gristmill.db", "master.key", "server.lock", "valkey", "files", "logs")

# HomeError
# ├── HomeUnwritable   it cannot be made, entered or written
# ├── HomeFull         the disk has no room
# ├── HomeShared       it is not a directory of its own
# ├── HomeOnNetwork    it stands on a network file system
# └── HomeInUse        another process holds its lock


class HomeError(Exception):
    """GRISTMILL_HOME cannot be used. Nothing was started."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} {reason}. Set GRISTMILL_HOME to another directory.")
        self.path = path


class HomeUnwritable(HomeError):
    """It cannot be made, entered or written."""


class HomeFull(HomeError):
    """The disk has no room."""


class HomeShared(HomeError):
    """It is not a directory of its own, and making it private would lock others out of their files."""


class HomeOnNetwork(HomeError):
    """It stands on a network file system."""


class HomeInUse(HomeError):
    """Another process holds its lock."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "is in use by another Gristmill server")


@dataclass(frozen=True, kw_only=True, slots=True)
class Home:
    """The places in a prepared home."""

    path: Path

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def files(self) -> Path:
        return self.path / "files"

    @property
    def valkey(self) -> Path:
        return self.path / "valkey"

    @property
    def server_state(self) -> Path:
        return self.path / "server.json"

    @property
    def server_lock(self) -> Path:
        return self.path / "server.lock"

    @contextmanager
    def lock(self, *, patience: float = LOCK_PATIENCE_SECONDS) -> Iterator[None]:
        """Held while the server lives; the system lets go of it even after kill -9. Raises HomeInUse."""
        descriptor = os.open(self.server_lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self._take(descriptor, time.monotonic() + patience)
            yield
        finally:
            os.close(descriptor)

    @property
    def is_locked(self) -> bool:
        """Whether a server lives here."""
        try:
            with self.lock(patience=0):
                return False
        except HomeInUse:
            return True

    def _take(self, descriptor: int, deadline: float) -> None:
        while True:
            try:
                return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise HomeInUse(self.path) from None
                time.sleep(0.02)


def prepare(path: Path, *, needs_local_disk: bool = True) -> Home:
    """Make the directory and its parts 0700 and see that it can be written. Raises HomeError."""
    with _explained(path):
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        _make_private(path)
        kind = filesystem.kind(path)
        if needs_local_disk and filesystem.is_network(kind):
            raise HomeOnNetwork(path, f"is on a network file system ({kind}), where SQLite would lose data")
        if filesystem.free_bytes(path) < LEAST_FREE_BYTES:
            raise HomeFull(path, f"has less than {LEAST_FREE_BYTES >> 20} MB of free disk space")
        home = Home(path=path)
        for part in (home.logs, home.files, home.valkey):
            part.mkdir(mode=0o700, exist_ok=True)
        write_private(path / ".writable", b"yes\n")
        (path / ".writable").unlink(missing_ok=True)
    return home


def write_private(path: Path, content: bytes) -> None:
    """Write a file 0600 in one step: readers see the old bytes or the new ones, also after a crash."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _make_private(path: Path) -> None:
    status = path.stat()
    if status.st_uid != os.geteuid() and os.geteuid() != 0:
        raise HomeUnwritable(path, "belongs to another user")
    if not stat.S_IMODE(status.st_mode) & 0o1077:
        return
    entries = {entry.name for entry in path.iterdir()} - {"lost+found"}
    if status.st_mode & stat.S_ISVTX or (entries and entries.isdisjoint(OURS)):
        raise HomeShared(path, "is open to other users and holds files that are not Gristmill's")
    path.chmod(0o700)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise HomeFull(path, f"has no room: {error.strerror}") from error
        raise HomeUnwritable(path, f"cannot be written: {error.strerror}") from error
