"""The file store: the bytes of uploaded files in a local (or shared) directory, immutable once they are named.

BlobError
 ├ BlobMissing
 ├ StoreFull
 └ StoreBroken
"""

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from worker import ids

CHUNK = 1 << 20
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class BlobError(Exception):
    """The file store failed."""


class BlobMissing(BlobError):
    """The file store has no such file."""


class StoreFull(BlobError):
    """The file store has no space left."""


class StoreBroken(BlobError):
    """The file store cannot be written or read."""


class Blobs:
    """Files of one directory by their file id. No part of a path ever comes from a client."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._temporary = folder / "tmp"

    def create(self, name: str) -> "Upload":
        """A new file, invisible until ``finish``. As a context manager it discards what is unfinished."""
        _check(name)
        try:
            self._temporary.mkdir(mode=0o700, parents=True, exist_ok=True)
            return Upload(self._temporary / name, self._path(name))
        except OSError as error:
            raise _translated(error) from error

    def open(self, name: str) -> "Blob":
        """The file for reads at any offset. Raises BlobMissing."""
        _check(name)
        try:
            return Blob(os.open(self._path(name), os.O_RDONLY | os.O_CLOEXEC))
        except FileNotFoundError as error:
            raise BlobMissing(f"the file store has no {name}") from error
        except OSError as error:
            raise _translated(error) from error

    def remove(self, name: str) -> None:
        """Erase the bytes. A file that is not there is erased already."""
        _check(name)
        try:
            self._path(name).unlink(missing_ok=True)
        except OSError as error:
            raise _translated(error) from error

    def sweep(self) -> int:
        """Erase what died uploads left behind, and return how many. Living uploads hold a lock and are kept."""
        swept = 0
        for path in self._temporary.glob("file-*"):
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)
                swept += 1
            except BlockingIOError:
                continue
            finally:
                os.close(descriptor)
        return swept

    def names(self) -> Iterator[str]:
        """Every stored file."""
        for path in self.folder.glob("??/file-*"):
            if ids.is_file(path.name):
                yield path.name

    def age(self, name: str, now: float) -> float:
        """Seconds since the file was written, or 0 if it is gone."""
        try:
            return now - self._path(name).stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def _path(self, name: str) -> Path:
        return self.folder / name[5:7] / name


class Blob:
    """An open file. Reads do not move a position, so threads may share it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    def read(self, offset: int, length: int) -> bytes:
        try:
            return os.pread(self._descriptor, length, offset)
        except OSError as error:
            raise _translated(error) from error

    def chunks(self, *, offset: int = 0, size: int = CHUNK) -> Iterator[bytes]:
        while chunk := self.read(offset, size):
            offset += len(chunk)
            yield chunk

    def close(self) -> None:
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Upload:
    """A file being written under a temporary name, locked so that a sweep can tell it from a dead one."""

    def __init__(self, temporary: Path, final: Path) -> None:
        self._temporary = temporary
        self._final = final
        self._descriptor: int | None = _create_locked(temporary)
        self._digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        """Append. Raises StoreFull, and the upload is then to be discarded."""
        assert self._descriptor is not None
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as error:
            raise _translated(error) from error
        self._digest.update(data)
        self.size += len(data)

    def finish(self) -> str:
        """Make the file durable and visible; returns its SHA-256 in hex."""
        assert self._descriptor is not None
        try:
            os.fsync(self._descriptor)
            self._final.parent.mkdir(mode=0o700, exist_ok=True)
            os.rename(self._temporary, self._final)
            _sync_folder(self._final.parent)
            _sync_folder(self._final.parent.parent)
        except OSError as error:
            raise _translated(error) from error
        self._close()
        return self._digest.hexdigest()

    def discard(self) -> None:
        """Leave nothing behind. Does nothing after ``finish``."""
        if self._descriptor is not None:
            self._temporary.unlink(missing_ok=True)
            self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def _create_locked(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # a sweep came between the two calls


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check(name: str) -> None:
    if not ids.is_file(name):
        raise ValueError("not the id of an uploaded file")


def _translated(error: OSError) -> BlobError:
    reason = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in FULL:
        return StoreFull(f"the file store is full: {reason}")
    return StoreBroken(f"the file store does not work: {reason}")
