"""``gristmill limits``: how the quotas stand, and why calls wait for them."""

import json
from datetime import datetime

import click

from api.cli import columns, server_link
from api.cli.batches import server_option
from api.limit_schemas import Quota, Scope, ScopeList

HEAD = ("scope", "quota", "limit", "from", "share", "last minute", "in flight", "waiting", "state")
AS_CONFIGURED = "file"


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@server_option
@click.pass_context
def limits(context: click.Context, as_json: bool, server: str | None) -> None:
    """Show the quotas that calls spend, who told them, and why calls wait.

    A scope is a provider, an account and a model.
    """
    if context.invoked_subcommand is not None:
        return
    with server_link.connect(server) as client:
        found = client.limits()
    click.echo(json.dumps(found.model_dump()) if as_json else _text(found))


@limits.command()
@click.argument("scope")
@server_option
def resume(scope: str, server: str | None) -> None:
    """Try a paused SCOPE again now: somebody has mended it."""
    with server_link.connect(server) as client:
        client.resume_scope(scope)
    click.echo(f"{scope} is tried again now")


@limits.command()
@click.argument("scope")
@click.argument("part")
@server_option
def share(scope: str, part: str, server: str | None) -> None:
    """Use only PART (above 0, up to 1) of the limits of SCOPE from now on; 'file': as gristmill.yaml says."""
    with server_link.connect(server) as client:
        changed = client.set_share(scope, None if part == AS_CONFIGURED else _part(part))
    click.echo(f"{scope}: {changed.share:.0%} of its limits may be used")


def _part(text: str) -> float:
    try:
        part = float(text)
    except ValueError:
        part = 0.0
    if not 0 < part <= 1:
        raise click.UsageError(f"PART must be above 0 and up to 1, or '{AS_CONFIGURED}', not '{text}'")
    return part


def _text(found: ScopeList) -> str:
    rows = [row for scope in found.data for row in _rows(scope)]
    lines = [columns.table(HEAD, rows)] if rows else ["No scope was used yet."]
    lines += [_why(scope) for scope in found.data if scope.paused is not None]
    lines += [f"{', '.join(scope.batches)}: waiting for {scope.scope}" for scope in found.data if _is_stopped(scope)]
    configuration = found.configuration
    if configuration is not None and configuration.fault is not None:
        lines.append(f"The newest edit of the configuration is not in force: {configuration.fault}")
    if configuration is not None and configuration.postponed:
        lines.append(f"After the next start: {', '.join(configuration.postponed)}")
    return "\n".join(lines)


def _rows(scope: Scope) -> list[tuple[str, ...]]:
    """A line for each quota; what is said of the scope stands in the first."""
    places = "" if scope.places is None else f" of {columns.count(scope.places)}"
    facts = (
        f"{columns.count(scope.requests)} calls, {columns.count(scope.tokens)} tokens",
        f"{columns.count(scope.in_flight)}{places}",
        columns.count(scope.waiting),
        _state(scope),
    )
    quotas = [_quota(quota) for quota in scope.quotas] or [("-", "unknown", "-")]
    share = f"{scope.share:.0%}"
    first, *others = quotas
    return [(scope.scope, *first, share, *facts), *(("", *quota, "", "", "", "", "") for quota in others)]


def _quota(quota: Quota) -> tuple[str, str, str]:
    return (
        quota.quota.removesuffix("_day").replace("_", " "),
        f"{columns.count(quota.limit)}/{quota.per}",
        quota.source,
    )


def _state(scope: Scope) -> str:
    if scope.paused is not None:
        return f"paused ({scope.paused.reason})"
    return f"rests until {_clock(scope.resting_until)}" if scope.resting_until else "open"


def _is_stopped(scope: Scope) -> bool:
    return bool(scope.batches) and (scope.paused is not None or scope.resting_until is not None)


def _why(scope: Scope) -> str:
    assert scope.paused is not None
    detail = f": {scope.paused.detail}" if scope.paused.detail else ""
    return (
        f"{scope.scope} is paused since {_clock(scope.paused.since)} ({scope.paused.reason}{detail}); tried again at "
        f"{_clock(scope.paused.probe_at)}, or now by 'gristmill limits resume {scope.scope}'"
    )


def _clock(moment: int) -> str:
    return datetime.fromtimestamp(moment).strftime("%H:%M:%S")
