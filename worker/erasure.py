"""Bytes that nobody needs any more: of files and batches that were deleted or have expired, and of dead uploads."""

from functools import partial

from worker.blobs import Blobs
from worker.database import Database
from worker.retention import Policy
from worker.store import erasing, expiry, files, forgetting, old

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


def erase_deleted(database: Database) -> bool:
    """Erase one portion of the rows of deleted batches. False when there is none for now."""
    with database.read() as session:
        number = erasing.due(session)
    if number is not None:
        database.write(partial(erasing.erase_some, number=number))
    return number is not None


def erase_expired(database: Database) -> bool:
    """Erase one portion of answers that have expired. False when there is none."""
    with database.read() as session:
        number = expiry.due(session)
    if number is not None:
        database.write(partial(expiry.erase_some, number=number))
    return number is not None


def retire(database: Database, policy: Policy) -> bool:
    """Delete some of what the configuration keeps no longer. False when there is nothing of it."""
    more = False
    for kinds, age in ((old.SUBMITTED, policy.batches), (old.HELD, policy.held)):
        if age is not None:
            more |= database.write(partial(old.delete_batches, kinds=kinds, age=age)) > 0
    if policy.input_files is not None:
        more |= database.write(partial(old.delete_files, age=policy.input_files)) > 0
    return more


def forget(database: Database) -> bool:
    """Forget some of what nobody asks for any more (store/forgetting.py). False when there is nothing of it."""
    return database.write(forgetting.deliveries) + database.write(forgetting.files) > 0


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
