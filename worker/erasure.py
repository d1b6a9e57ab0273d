"""Bytes that nobody needs any more: of files that were deleted or have expired, and of uploads that died."""

from functools import partial

from worker.blobs import Blobs
from worker.database import Database
from worker.store import files

ROWS = 500
ORPHAN_SECONDS = 3_600.0
"""A stored file without a row is an upload whose process died; a living one writes its row within seconds."""


def erase(database: Database, blobs: Blobs) -> int:
    """Erase the bytes of deleted and expired files that no batch needs; returns how many."""
    count = 0
    while names := database.write(lambda session: files.erase_unneeded(session, ROWS)):
        for name in names:
            blobs.remove(name)
        database.write(partial(files.erased, names=names))
        count += len(names)
    return count


def sweep(database: Database, blobs: Blobs) -> int:
    """Erase what uploads left behind whose process died; returns how many."""
    count = blobs.sweep()
    now = database.now()
    old = [name for name in blobs.names() if blobs.age(name, now) > ORPHAN_SECONDS]
    for start in range(0, len(old), ROWS):
        some = old[start : start + ROWS]
        with database.read() as session:
            orphans = files.unknown(session, some)
        for name in orphans:
            blobs.remove(name)
        count += len(orphans)
    return count
