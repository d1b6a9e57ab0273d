"""``gristmill webhooks``: what a receiver needs to know."""

import click

from api.cli import server_link
from api.cli.batches import server_option


@click.group()
def webhooks() -> None:
    """Show what the receivers of webhooks need to know."""


@webhooks.command()
@click.option("--rotate", is_flag=True, help="Make a new one; the old one signs beside it for a day.")
@server_option
def secret(rotate: bool, server: str | None) -> None:
    """Print the secret with which the webhooks of your batches (submit --webhook) are signed."""
    with server_link.connect(server) as client:
        click.echo(client.webhook_secret(rotate=rotate).signing_secret)
