"""``gristmill keys``: who may use this server. Works on the database itself, also while no server runs."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from api.cli import columns, faults, server_link

if TYPE_CHECKING:
    from worker.database import Database
    from worker.tables import ApiKey

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group()
def keys() -> None:
    """Make, show, change and revoke API keys.

    From the first key on, every request to the server needs one; commands on this machine need none.
    """


def rules(command: Command) -> Command:
    """The options that say what a key may do."""
    for option in (
        click.option("--models", metavar="PATTERNS", help="Only these: 'openai/*,local/*', or 'all'."),
        click.option("--expires", metavar="TIME", help="Works for so long from now: 12h, 90d, or none."),
    ):
        command = option(command)
    return command


@keys.command()
@click.argument("name")
@click.option("--owner", help="Keys of one owner see the same batches and files. Default: NAME.")
@rules
def create(name: str, owner: str | None, **said: str | None) -> None:
    """Make a key and print its secret, which is shown only now."""
    from worker.store import api_keys

    with _database() as database, _explained():
        wanted = _rules(database, said)
        key, secret = database.write(lambda session: api_keys.create(session, name, owner or name, **wanted))
    click.echo(f"Key {key.id} ({key.name}) of owner {key.owner}. This is its secret, shown only now:", err=True)
    click.echo(secret)


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="As a JSON list.")
def list_keys(as_json: bool) -> None:
    """Show all keys, revoked ones included; never a secret."""
    from worker.store import api_keys

    with _database() as database:
        now = database.now()
        with database.read() as session:
            found = [_shown(key, now) for key in api_keys.all_keys(session)]
    if as_json:
        click.echo(json.dumps(found))
    else:
        head = ("id", "name", "owner", "secret", "state", "models", "last used")
        click.echo(columns.table(head, [_row(key) for key in found]))


@keys.command()
@click.argument("key", metavar="ID|NAME")
def revoke(key: str) -> None:
    """Let a key in no more. Its batches go on; 'gristmill cancel' stops them."""
    from worker.store import api_keys

    with _database() as database, _explained():
        row = database.write(lambda session: api_keys.revoke(session, key))
    click.echo(f"{row.id} ({row.name}) is revoked.")


@keys.command()
@click.argument("key", metavar="ID|NAME")
@rules
def change(key: str, **said: str | None) -> None:
    """Change what a key may do, at once. What is not named stays."""
    from worker.store import api_keys

    with _database() as database, _explained():
        wanted = _rules(database, said)
        row = database.write(lambda session: api_keys.change(session, key, **wanted))
    click.echo(f"{row.id} ({row.name}) is changed.")


@contextlib.contextmanager
def _database() -> "Iterator[Database]":
    """Migrated as a server would, unless one of another version runs here. Raises UsageFault or ServerGone."""
    from worker import migrations
    from worker.database import Database, DatabaseAway

    settings = server_link.load_settings()
    os.umask(0o077)
    place = server_link.open_home(settings)
    if place.is_locked:
        server_link.running_url(place)
    database = Database(settings.database)
    try:
        migrations.upgrade(database)
        yield database
    except migrations.MigrationError as error:
        raise faults.UsageFault(str(error)) from None
    except DatabaseAway as error:
        raise faults.ServerGone(str(error)) from None
    finally:
        database.close()


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    from worker.store import api_keys

    try:
        yield
    except api_keys.ApiKeyError as error:
        raise faults.UsageFault(str(error)) from None


def _rules(database: "Database", said: dict[str, str | None]) -> Any:
    """Of what was said only; money becomes pico-USD."""
    wanted: dict[str, Any] = {}
    if said["models"] is not None:
        patterns = [pattern.strip() for pattern in said["models"].split(",") if pattern.strip()]
        wanted["models"] = None if patterns == ["all"] else patterns
    if said["expires"] is not None:
        wanted["expires_at"] = _moment(database, said["expires"])
    return wanted


def _moment(database: "Database", time: str) -> float | None:
    from worker import windows

    try:
        seconds = windows.seconds(time, standard=windows.DAY)
    except windows.InvalidWindow:
        raise faults.UsageFault(f"--expires {time}: write a time such as 12h or 90d, or none.") from None
    return None if seconds is None else database.now() + seconds


def _shown(key: "ApiKey", now: float) -> dict[str, Any]:
    expired = key.expires_at is not None and key.expires_at <= now
    state = "revoked" if key.revoked_at is not None else "expired" if expired else "works"
    names = ("id", "name", "owner", "models", "created_at", "expires_at", "last_used_at", "revoked_at")
    return {**{name: getattr(key, name) for name in names}, "secret": f"gm-...{key.hint}", "state": state}


def _row(key: dict[str, Any]) -> tuple[str, ...]:
    models = "all" if key["models"] is None else ",".join(key["models"])
    return (key["id"], key["name"], key["owner"], key["secret"], key["state"], models, _local(key["last_used_at"]))


def _local(moment: float | None) -> str:
    return "-" if moment is None else f"{datetime.fromtimestamp(moment):%Y-%m-%d %H:%M}"
