"""A file that holds one secret, as Docker, Kubernetes and systemd hand them out."""

import os
import stat
from pathlib import Path

LONGEST = 64 * 1024


class SecretFileError(Exception):
    """The file cannot be used. The message names it and the reason, never what it holds."""


def read(path: Path) -> str:
    """What the file holds, without white space around it. Raises SecretFileError."""
    if not path.is_absolute():
        raise SecretFileError(f"{path} is not an absolute path, and our processes run in different directories")
    try:
        with path.open("rb") as file:
            text = file.read(LONGEST + 1).decode().strip()
    except OSError as error:
        raise SecretFileError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SecretFileError(f"{path} is not UTF-8") from None
    if not text or len(text) > LONGEST:
        raise SecretFileError(f"{path} is empty" if not text else f"{path} is larger than {LONGEST >> 10} kB")
    return text


def is_open_to_others(path: Path) -> bool:
    """Whether other users may read it. On a read-only mount, where Kubernetes puts secrets, nobody can mend that."""
    try:
        mode, mount = path.stat().st_mode, os.statvfs(path)
    except OSError:
        return False
    return bool(stat.S_IMODE(mode) & 0o077) and not mount.f_flag & os.ST_RDONLY


def stamp(path: Path) -> tuple[int, ...] | None:
    """Differs when the file was changed or replaced; None if it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
