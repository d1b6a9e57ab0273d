"""Copies of an SQLite database, made before it is migrated: gristmill.db.before-NNNN, the last two."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

KEPT = 2


def make(database: Path, revision: str) -> Path:
    """What is committed now, as it was before ``revision``, 0600. Raises OSError or sqlite3.Error."""
    copy = database.with_name(f"{database.name}.before-{revision}")
    unfinished = copy.with_name(f".{copy.name}")
    unfinished.unlink(missing_ok=True)
    try:
        os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(unfinished)) as target:
            source.backup(target)
        _sync(unfinished)
        os.replace(unfinished, copy)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    for old in _copies(database)[:-KEPT]:
        old.unlink(missing_ok=True)
    return copy


def _copies(database: Path) -> list[Path]:
    """Oldest schema first."""
    return sorted(database.parent.glob(f"{database.name}.before-[0-9]*"))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
