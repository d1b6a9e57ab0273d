"""``gristmill prune``: what is old goes, and its room comes back. Of all owners: it works on the database itself."""

import contextlib
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import click

from api.cli import columns, faults, server_link
from api.cli.deletion import confirm
from worker import erasure, migrations, space, windows
from worker.blobs import Blobs
from worker.database import Database
from worker.embedded import home
from worker.retention import Policy
from worker.settings import Settings
from worker.store import old
from worker.store.old import Found


@click.command()
@click.option("--older-than", default="30d", show_default=True, metavar="AGE", help="Such as 36h or 90d.")
@click.option("--batches", "only_batches", is_flag=True, help="Batches and held jobs that ended so long ago, only.")
@click.option("--files", "only_files", is_flag=True, help="Uploaded files of so long ago that no batch needs, only.")
@click.option("--dry-run", is_flag=True, help="Say what would go, and stop.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def prune(older_than: str, only_batches: bool, only_files: bool, dry_run: bool, yes: bool) -> None:
    """Delete what is old, and give its room back. It does so for all owners; what was used and paid stays known."""
    age = _seconds(older_than)
    both = only_batches == only_files
    policy = Policy(
        batches=age if both or only_batches else None,
        held=age if both or only_batches else None,
        input_files=age if both or only_files else None,
    )
    settings = server_link.load_settings()
    with _opened(settings) as database:
        batches, files = _found(database, policy)
        click.echo(_told(batches, files, older_than))
        if dry_run:
            return
        if (batches.count or files.count) and not yes:
            confirm("Delete them for ever?")
        _delete(database, Blobs(settings.home / "files"), policy)
        _give_back(database, settings)


def _seconds(age: str) -> float:
    try:
        seconds = windows.seconds(age, standard=windows.DAY)
    except windows.InvalidWindow:
        seconds = None
    if seconds is None:
        raise faults.UsageFault(f"--older-than {age}: must be a duration such as 36h or 90d.")
    return seconds


@contextlib.contextmanager
def _opened(settings: Settings) -> Iterator[Database]:
    """Raises UsageFault unless it is there and as this version knows it."""
    database = Database(settings.database)
    try:
        if database.sqlite and not Path(database.url.database or "").exists():
            raise faults.UsageFault(f"there is no database at {database.url.database} yet.")
        with database.read() as session:
            schema = migrations.current(session.connection())
        if schema != migrations.revisions()[-1]:
            raise faults.UsageFault(f"the database has schema {schema}: start the server of this version once before.")
        yield database
    finally:
        database.close()


def _found(database: Database, policy: Policy) -> tuple[Found, Found]:
    nothing = Found(count=0, bytes=0)
    with database.read() as session:
        batches = old.count_batches(session, old.ALL, policy.batches) if policy.batches is not None else nothing
        files = old.count_files(session, policy.input_files) if policy.input_files is not None else nothing
    return batches, files


def _told(batches: Found, files: Found, age: str) -> str:
    lines = f"{columns.count(batches.lines)} lines, {columns.megabytes(batches.bytes)} of answers"
    return (
        f"older than {age}: {columns.plural(batches.count, 'batch', 'batches')} ({lines}), "
        f"{columns.plural(files.count, 'input file')} ({columns.megabytes(files.bytes)})"
    )


def _delete(database: Database, blobs: Blobs, policy: Policy) -> None:
    """In portions with pauses as long, for a server may be at work."""
    for portion in (partial(erasure.retire, database, policy), partial(erasure.erase_deleted, database)):
        began = time.monotonic()
        while portion():
            time.sleep(time.monotonic() - began)
            began = time.monotonic()
    erasure.erase(database, blobs)


def _give_back(database: Database, settings: Settings) -> None:
    place = home.Home(path=settings.home)
    with contextlib.ExitStack() as stack:
        if space.needs_quiet(database):
            try:
                stack.enter_context(place.lock())
            except home.HomeInUse:
                click.echo("The room will be used again. To give it back, stop the server and prune once more.")
                return
        room = space.give_back(database)
    click.echo(f"freed {columns.megabytes(room.freed)}: the database has {columns.megabytes(room.after)}")
