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
    from worker.store.purses import Purse
    from worker.tables import ApiKey

PICO = 10**12
MOST_USD = 1e6
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
        click.option("--budget-day", metavar="USD", help="A UTC day's calls may cost so much; or none."),
        click.option("--budget-month", metavar="USD", help="A UTC month's calls may cost so much; or none."),
        click.option("--budget-batch", metavar="USD", help="No batch may have a higher max_cost; or none."),
        click.option(
            "--over-budget",
            type=click.Choice(["pause", "refuse"]),
            help="What comes then waits for the next period (the default), or is refused; what runs waits.",
        ),
        click.option(
            "--allow-unknown-cost",
            type=click.Choice(["yes", "no"]),
            help="With a budget: whether models of unknown price may be called all the same (the default is no).",
        ),
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
    """Show all keys with what they have spent, revoked ones included; never a secret."""
    from worker.store import api_keys, purses

    with _database() as database:
        now = database.now()
        with database.read() as session:
            rows = api_keys.all_keys(session)
            spent = purses.load(session.connection(), [key.id for key in rows], now, lock=False)
            found = [_shown(key, spent[key.id], now) for key in rows]
    if as_json:
        click.echo(json.dumps(found))
    else:
        head = ("id", "name", "owner", "secret", "state", "models", "today", "this month", "last used")
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
    from worker.store import api_keys, purses

    with _database() as database, _explained():
        wanted = _rules(database, said)
        row = database.write(lambda session: api_keys.change(session, key, **wanted))
        database.write(lambda session: purses.wake(session, row.id))
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
    if said["over_budget"] is not None:
        wanted["over_budget"] = said["over_budget"]
    if said["allow_unknown_cost"] is not None:
        wanted["allow_unknown_cost"] = said["allow_unknown_cost"] == "yes"
    for name in ("budget_day", "budget_month", "budget_batch"):
        if (sum := said[name]) is not None:
            wanted[name] = None if sum == "none" else _picousd(name, sum)
    if said["expires"] is not None:
        wanted["expires_at"] = _moment(database, said["expires"])
    return wanted


def _picousd(name: str, sum: str) -> int:
    try:
        usd = float(sum)
    except ValueError:
        usd = -1.0
    if not 0 <= usd <= MOST_USD:
        raise faults.UsageFault(f"--{name.replace('_', '-')} {sum}: write a sum in USD such as 5 or 0.25, or none.")
    return round(usd * PICO)


def _moment(database: "Database", time: str) -> float | None:
    from worker import windows

    try:
        seconds = windows.seconds(time, standard=windows.DAY)
    except windows.InvalidWindow:
        raise faults.UsageFault(f"--expires {time}: write a time such as 12h or 90d, or none.") from None
    return None if seconds is None else database.now() + seconds


def _shown(key: "ApiKey", purse: "Purse", now: float) -> dict[str, Any]:
    expired = key.expires_at is not None and key.expires_at <= now
    state = "revoked" if key.revoked_at is not None else "expired" if expired else "works"
    names = ("id", "name", "owner", "models", "created_at", "expires_at", "last_used_at", "revoked_at")
    money = {
        f"budget_{name}_usd": None if limit is None else limit / PICO
        for name, limit in (("day", key.budget_day), ("month", key.budget_month), ("batch", key.budget_batch))
    }
    day, month = purse.budgets
    return {
        **{name: getattr(key, name) for name in names},
        **money,
        "over_budget": key.over_budget,
        "allow_unknown_cost": key.allow_unknown_cost,
        "spent_day_usd": day.spent / PICO,
        "spent_month_usd": month.spent / PICO,
        "reserved_usd": purse.reserved / PICO,
        "secret": f"gm-...{key.hint}",
        "state": state,
    }


def _row(key: dict[str, Any]) -> tuple[str, ...]:
    models = "all" if key["models"] is None else ",".join(key["models"])
    today, month = _spent(key, "day"), _spent(key, "month")
    names = ("id", "name", "owner", "secret", "state")
    return (*(key[name] for name in names), models, today, month, _local(key["last_used_at"]))


def _spent(key: dict[str, Any], period: str) -> str:
    budget, spent = key[f"budget_{period}_usd"], columns.money(key[f"spent_{period}_usd"])
    return spent if budget is None else f"{spent} of {columns.money(budget)}"


def _local(moment: float | None) -> str:
    return "-" if moment is None else f"{datetime.fromtimestamp(moment):%Y-%m-%d %H:%M}"
