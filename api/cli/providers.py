"""``gristmill providers``: who can be paid, and where their keys are. No key is ever shown or taken as an argument."""

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import click

from api.cli import columns, faults, key_table, server_link
from providers.secret import Secret
from worker import config, migrations, rotation
from worker.database import Database, DatabaseAway
from worker.master_key import MasterKeyError
from worker.provider_key import Source, hint
from worker.routes import Provider, Routes
from worker.settings import Settings
from worker.store import provider_keys
from worker.vault import Sealed, Vault

SOON = "Processes that run use it within two seconds."

account_option = click.option("--account", default="default", show_default=True, help="Of several at one provider.")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """The database behind a command, and the configuration."""

    settings: Settings
    config: config.Config
    database: Database
    vault: Vault

    def routes(self) -> Routes:
        with self.database.read() as session:
            rows = provider_keys.rows(session)
        return Routes(self.config, self.settings, provider_keys.opened(self.vault, rows))


@click.group(invoke_without_command=True)
@click.pass_context
def providers(context: click.Context) -> None:
    """Show the providers, and keep their keys."""
    if context.invoked_subcommand is not None:
        return
    with _place() as place:
        rows = [_provider_row(part) for one in place.routes().providers.values() for part in one.parts]
    click.echo(columns.table(("provider", "configured", "address", "key"), rows))


@providers.command("set-key")
@click.argument("name")
@account_option
def set_key(name: str, account: str) -> None:
    """Store the key of provider NAME, encrypted. It is asked for, or read from standard input."""
    with _place() as place:
        _check_names(place.routes(), name, account)
        value = _read(name)
        place.database.write(lambda session: provider_keys.put(session, place.vault, name, account, value))
        provider = place.routes().providers[name]
    click.echo(f"Stored the key of {name} ({hint(value)}). {SOON}")
    for note in _notes(provider, account):
        click.echo(f"Note: {note}", err=True)


@providers.command("remove-key")
@click.argument("name")
@account_option
def remove_key(name: str, account: str) -> None:
    """Forget the key of provider NAME that is in the database."""
    with _place() as place:
        if not place.database.write(lambda session: provider_keys.remove(session, name, account)):
            raise faults.UsageFault(f"the database has no key of {name} ({account}). 'gristmill providers list-keys'")
        provider = place.routes().providers.get(name)
    click.echo(f"Removed the key of {name}. Processes that run forget it within two seconds.")
    if provider is not None and provider.key is not None:
        click.echo(f"Note: {name} now uses the key from {provider.key.where}.", err=True)


@providers.command("list-keys")
def list_keys() -> None:
    """Show which keys there are, where they are from, and their last characters."""
    with _place() as place:
        with place.database.read() as session:
            entries = provider_keys.entries(session)
        found = place.routes().providers
    click.echo(key_table.table(found, entries))


@providers.command("rotate-master-key")
def rotate_master_key() -> None:
    """Encrypt all secrets with a new master key, and forget the old one."""
    with _place() as place:
        count = rotation.rotate(place.database, place.vault)
        mine = place.vault.master_key.is_in_home
    click.echo(f"Encrypted {columns.plural(count, 'secret')} with the new master key.")
    if not mine:
        click.echo("The old one may go from GRISTMILL_MASTER_KEY, or from its file, of all processes.")


@contextlib.contextmanager
def _place() -> Iterator[_Place]:
    """Migrated, so that a key can be stored before anything ever ran here. Raises UsageFault."""
    settings = server_link.load_settings()
    server_link.open_home(settings)
    vault = Vault(settings)
    database = Database(settings.database, vault)
    try:
        migrations.upgrade(database)
        configuration = config.load(settings.config)
        yield _Place(settings=settings, config=configuration, database=database, vault=vault)
    except (config.ConfigError, DatabaseAway, migrations.MigrationError, MasterKeyError, Sealed) as error:
        raise faults.UsageFault(str(error)) from None
    finally:
        database.close()


def _check_names(routes: Routes, name: str, account: str) -> None:
    if name not in routes.providers:
        known = ", ".join(routes.providers)
        raise faults.UsageFault(f"there is no provider {name!r}; known are {known}, and gristmill.yaml may name more.")
    if not config.is_name(account):
        raise faults.UsageFault(f"an account is named with letters, digits and _.-, not {account!r}.")


def _read(name: str) -> str:
    """Without echo from a terminal, else the first line of standard input. Raises UsageFault."""
    if sys.stdin.isatty():
        text: str = click.prompt(f"Key of {name}", hide_input=True)
    else:
        text = sys.stdin.readline()
    try:
        return Secret(text.strip()).reveal()
    except ValueError as error:
        raise faults.UsageFault(f"that is no key: {error}. Nothing was stored.") from None


def _notes(provider: Provider, account: str) -> Iterator[str]:
    part = provider.part(account)
    if part is None:
        yield f"it is used once gristmill.yaml says 'account: {account}' of {provider.name}, or names it in 'accounts'."
    elif part.key is None:
        yield f"{provider.name} has 'auth: none': it gets no key."
    elif part.key.source is not Source.DATABASE:
        yield f"the key from {part.key.where} hides it."
    if provider.is_elsewhere:
        yield f"{provider.name} is called at {provider.address}; the key goes there."


def _provider_row(provider: Provider) -> tuple[str, ...]:
    key = provider.key
    if key is None:
        said = f"none: {provider.missing_variable} is not set" if provider.missing_variable else "none"
    else:
        said = f"from {key.where}" if key.fault is None else f"unreadable: {key.fault}"
    configured = "gristmill.yaml" if provider.is_configured else "built in"
    return provider.label, configured, provider.address or "", said
