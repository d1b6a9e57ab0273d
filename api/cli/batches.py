"""``submit``, ``list`` and the moves of a batch: one request each to a server that runs."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from api import schemas
from api.cli import columns, progress, requests_file, server_link
from worker.webhooks import event_types

Command = TypeVar("Command", bound=Callable[..., Any])
EVENT = click.Choice([*event_types.ENDED, *event_types.WHILE_IT_RUNS])


def server_option(command: Command) -> Command:
    return click.option("--server", metavar="URL", help="The server, if it is not the one of this machine.")(command)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--window", default="none", show_default=True, help="Expire after this long: 90m, 36h, 7d, or none.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N lines for now.")
@click.option("--max-cost", type=click.FloatRange(min=0), metavar="USD", help="Start no call that would pass this sum.")
@click.option("--allow-unknown-cost", is_flag=True, help="Under --max-cost, run models of unknown price too.")
@click.option("--allow-fallback", is_flag=True, help="Lines that ask for an alias may go on with its fallbacks.")
@click.option("--skip-invalid", is_flag=True, help="Run the good lines of a file that has faulty ones.")
@click.option("--priority", type=int, default=0, show_default=True, help="Batches with more go first.")
@click.option("--hold", is_flag=True, help="Check the lines and wait for 'gristmill resume'.")
@click.option("--webhook", "webhook_url", metavar="URL", help="Call this URL when the batch ends.")
@click.option(
    "--webhook-event",
    "events",
    type=EVENT,
    metavar="TYPE",
    multiple=True,
    help="Call it for this instead (repeatable).",
)
@server_option
def submit(
    file: Path,
    window: str,
    limit: int | None,
    skip_invalid: bool,
    events: tuple[str, ...],
    server: str | None,
    **options: Any,
) -> None:
    """Hand FILE to a server and print the id of its batch."""
    if events and options["webhook_url"] is None:
        raise click.UsageError("--webhook-event needs --webhook URL")
    requests = requests_file.read(file)
    with server_link.connect(server) as client:
        uploaded = client.upload(requests.path)
        wanted = {**options, "line_limit": limit, "invalid_lines": "report" if skip_invalid else "fail"}
        if events:
            wanted["webhook_events"] = list(events)
        batch = client.create(
            input_file_id=uploaded.id,
            endpoint=requests.endpoint,
            window=window,
            metadata={"file": requests.path.name[:512]},
            options=schemas.BatchOptions.model_validate(wanted),
        )
    click.echo(batch.id)


@click.command("list")
@click.option("--limit", type=click.IntRange(1, 100), default=20, show_default=True)
@server_option
def list_batches(limit: int, server: str | None) -> None:
    """Show the newest batches."""
    with server_link.connect(server) as client:
        both = client.page(limit=limit) + client.page(limit=limit, kind="messages")
    batches = sorted(both, key=lambda batch: batch.created_at, reverse=True)[:limit]
    head = ("batch", "created", "status", "done", "failed", "cost", "ETA", "file")
    click.echo(columns.table(head, [_row(batch) for batch in batches]))


@click.command()
@click.argument("batch")
@server_option
def cancel(batch: str, server: str | None) -> None:
    """Start no more calls of BATCH; keep what is done."""
    with server_link.connect(server) as client:
        _tell(client.cancel(batch))


@click.command()
@click.argument("batch")
@server_option
def pause(batch: str, server: str | None) -> None:
    """Start no more calls of BATCH until it is resumed."""
    with server_link.connect(server) as client:
        _tell(client.pause(batch))


@click.command()
@click.argument("batch")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N lines for now.")
@click.option("--max-cost", type=click.FloatRange(min=0), metavar="USD", help="Start no call that would pass this sum.")
@click.option("--allow-unknown-cost", is_flag=True, help="Under --max-cost, run models of unknown price too.")
@click.option("--retry-failed", is_flag=True, help="Run lines again whose result is an error.")
@server_option
def resume(batch: str, limit: int | None, max_cost: float | None, server: str | None, **flags: bool) -> None:
    """Let a paused, held or capped BATCH go on. Limits that are not named stay."""
    named: dict[str, Any] = {name: True for name, said in flags.items() if said}
    if limit is not None:
        named["line_limit"] = limit
    if max_cost is not None:
        named["max_cost"] = max_cost
    with server_link.connect(server) as client:
        _tell(client.resume(batch, **named))


@click.command()
@click.argument("batch")
@click.option("--max-cost", type=click.FloatRange(min=0), metavar="USD", help="Start no call that would pass this sum.")
@server_option
def retry(batch: str, max_cost: float | None, server: str | None) -> None:
    """Run the lines of BATCH again that did not succeed. What succeeded stays."""
    with server_link.connect(server) as client:
        _tell(client.retry(batch, **({} if max_cost is None else {"max_cost": max_cost})))


@click.command()
@click.argument("batch")
@click.argument("window")
@server_option
def extend(batch: str, window: str, server: str | None) -> None:
    """Give BATCH another time limit. WINDOW counts from now: 90m, 36h, 3d, or none."""
    with server_link.connect(server) as client:
        extended = client.extend(batch, window)
    ends = extended.expires_at
    click.echo(f"{extended.id} " + (f"expires at {_moment(ends)}" if ends else "does not expire"))


def _row(batch: schemas.Batch) -> tuple[str, ...]:
    extension = batch.gristmill
    return (
        batch.id,
        _moment(batch.created_at),
        _status(batch),
        f"{columns.count(progress.done(batch))}/{columns.count(batch.request_counts.total)}",
        columns.count(batch.request_counts.failed),
        columns.cost(extension.cost_usd, extension.unknown_cost),
        progress.eta(batch),
        batch.metadata.get("file", "-"),
    )


def _status(batch: schemas.Batch) -> str:
    if batch.status != "in_progress":
        return batch.status
    return "paused" if batch.gristmill.paused else "blocked" if batch.gristmill.blocked_by else batch.status


def _tell(batch: schemas.Batch) -> None:
    click.echo(f"{batch.id} is {_status(batch)}")


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")
