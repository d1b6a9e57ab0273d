"""``gristmill watch``: comes back to a batch that runs on."""

import sys

import click

from api.cli import faults, follow, progress, server_link, signals, totals
from api.cli.batches import server_option
from api.cli.follow import Ending
from api.cli.server_link import Link


@click.command()
@click.argument("batch")
@server_option
def watch(batch: str, server: str | None) -> None:
    """Show how BATCH goes until it ends. Ctrl-C stops the watching, not the batch.

    Starts the server again if it does not run; it then ends with this command.
    """
    settings = server_link.load_settings()
    place = server_link.open_home(settings)
    with signals.interruptible():
        link = Link(place, settings, url=server, with_lifeline=True)
        try:
            link.client.batch(batch)
            with progress.display() as display:
                found, ending = follow.follow(link, batch, display, follow.Patience())
        finally:
            link.release()
    click.echo(totals.text(found, wall_seconds=None))
    if ending is not Ending.REST:
        raise faults.Stopped(f"{found.id} waits: {'; '.join(progress.blocks(found))}")
    click.echo(f"{found.id} is {found.status}. 'gristmill results {found.id}' shows what came.")
    sys.exit(totals.exit_status(found))
