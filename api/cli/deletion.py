"""``gristmill delete``: batches that have ended, with all their answers."""

import sys

import click

from api.cli import columns, faults, server_link
from api.cli.batches import server_option


@click.command()
@click.argument("batches", nargs=-1, required=True, metavar="BATCH...")
@click.option("--files", is_flag=True, help="Their input files too.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@server_option
def delete(batches: tuple[str, ...], files: bool, yes: bool, server: str | None) -> None:
    """Delete batches that have ended, with all their answers. What they used and cost stays in 'gristmill usage'."""
    if not yes:
        confirm(f"Delete {columns.plural(len(batches), 'batch', 'batches')} for ever?")
    with server_link.connect(server) as client:
        for batch in batches:
            client.delete(batch, files=files)
            click.echo(f"{batch} is deleted")


def confirm(question: str) -> None:
    """Ask on a terminal. Raises UsageFault where nobody can be asked, Abort on no."""
    if not sys.stdin.isatty():
        raise faults.UsageFault(f"{question} There is nobody to ask: say --yes.")
    click.confirm(question, abort=True, err=True)
