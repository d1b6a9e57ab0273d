"""``gristmill usage``: what was used and paid."""

import click

from api import schemas
from api.cli import columns, server_link
from api.cli.batches import server_option

DAY = click.DateTime(formats=["%Y-%m-%d"])


@click.command()
@click.option(
    "--by", type=click.Choice(["day", "model", "provider", "batch", "key", "owner"]), default="day", show_default=True
)
@click.option("--from", "first", metavar="DAY", type=DAY, help="The first day (UTC), such as 2026-11-01.")
@click.option("--to", "last", metavar="DAY", type=DAY, help="The last day (UTC), included.")
@click.option("--all-owners", is_flag=True, help="Of everybody, if the server runs on this machine.")
@server_option
def usage(by: str, all_owners: bool, server: str | None, **days: object) -> None:
    """Show what calls used and cost, by day, model, provider, batch, key or owner."""
    asked = {name: f"{day:%Y-%m-%d}" for name, day in (("from", days["first"]), ("to", days["last"])) if day}
    if all_owners:
        asked["all_owners"] = "true"
    with server_link.connect(server) as client:
        found = client.usage(by=by, **asked)
    head = (by, "calls", "input", "cached", "output", "reasoning", "cost")
    click.echo(columns.table(head, [_row(row) for row in found]))


def _row(row: schemas.UsageSum) -> tuple[str, ...]:
    tokens = (row.input_tokens, row.cached_tokens, row.output_tokens, row.reasoning_tokens)
    return (
        row.key,
        columns.count(row.attempts),
        *("unknown" if count is None else columns.count(count) for count in tokens),
        columns.cost(row.cost_usd, row.unknown_cost),
    )
