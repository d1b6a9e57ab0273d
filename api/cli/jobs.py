"""``gristmill jobs``: the lines of a batch, and what was tried for each."""

from itertools import islice

import click

from api import schemas
from api.cli import columns, server_link
from api.cli.batches import server_option

STATUSES = ("pending", "succeeded", "failed", "expired", "cancelled")
HEAD = ("line", "custom_id", "model", "status", "error", "attempts", "seconds", "tokens", "cost")


@click.command()
@click.argument("batch")
@click.option("--status", type=click.Choice(STATUSES), help="Only lines that stand so.")
@click.option("--after", type=click.IntRange(min=0), default=0, metavar="LINE", help="Begin behind this line.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, metavar="N")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line, with every attempt.")
@server_option
def jobs(batch: str, status: str | None, after: int, limit: int, as_json: bool, server: str | None) -> None:
    """Show the lines of BATCH, and what was tried for each."""
    with server_link.connect(server) as client:
        found = client.jobs(batch, status=status, after=after)
        if as_json:
            for job in islice(found, limit):
                click.echo(job.model_dump_json())
            return
        shown = list(islice(found, limit))
        more = next(found, None) is not None
    if not shown:
        click.echo(f"no such line in {batch}" if status is None else f"no {status} line in {batch}", err=True)
        return
    click.echo(columns.table(HEAD, [_row(job) for job in shown]))
    if more:
        click.echo(f"There are more: --after {shown[-1].line}", err=True)


def _row(job: schemas.Job) -> tuple[str, ...]:
    last = job.attempts[-1] if job.attempts else None
    return (
        str(job.line),
        job.custom_id or "-",
        job.model or "-",
        job.status,
        job.error_code or "-",
        columns.count(job.attempts_total),
        "-" if last is None else f"{last.seconds:.1f}",
        "-" if last is None else _tokens(last),
        "-" if last is None else columns.money(last.cost_usd),
    )


def _tokens(attempt: schemas.Attempt) -> str:
    known = [count for count in (attempt.input_tokens, attempt.output_tokens) if count is not None]
    return columns.count(sum(known)) if known else "-"
