"""What is known of batches besides their own rows: models, faulty lines, calls in flight, and why lines wait."""

import contextlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import sqlalchemy
from sqlmodel import Session, col, select

from worker import clock, states
from worker.routes import MissingKey, RouteError
from worker.routing import trail as trails
from worker.states import SliceState
from worker.store import etas, purses, scopes
from worker.store.recording import UNKNOWN_COST
from worker.tables import API_KEY, BATCH, Batch, LineError, Slice, Tally, WebhookEndpoint

_LOST = {MissingKey.code: "missing_key"}
"""Reasons for routes that lead nowhere any more, where they are not the error's code."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """Why some or all lines of a batch wait. ``scope`` or ``model`` says which; neither means all."""

    reason: str
    since: float
    scope: str | None = None
    model: str | None = None
    detail: str | None = None


@dataclass(kw_only=True, slots=True)
class Progress:
    tallies: list[Tally] = field(default_factory=list)
    errors: list[LineError] = field(default_factory=list)
    in_flight: int = 0
    blocks: list[Block] = field(default_factory=list)
    webhook_url: str | None = None
    detours: set[str] = field(default_factory=set)
    """Routes that open lines have fallen back to."""
    done_at: float | None = None
    """When it will be done, as far as is known; ``seconds_left`` until then by the database's clock."""
    seconds_left: float | None = None


def of(
    session: Session,
    batches: Sequence[Batch],
    *,
    scopes_of: Callable[[str], Collection[str]],
    errors: int,
    serves: Callable[[str], bool] = lambda provider: True,
) -> dict[int, Progress]:
    """By batch number. ``errors`` limits the faulty lines.

    ``scopes_of`` names the scopes that a route may spend; it raises RouteError for one that leads nowhere any more.
    ``serves`` says whether some worker calls a provider.
    """
    found = {batch.number: Progress() for batch in batches if batch.number is not None}
    for tally in session.exec(select(Tally).where(col(Tally.batch).in_(found)).order_by(col(Tally.route))):
        found[tally.batch].tallies.append(tally)
    for batch in batches:
        assert batch.number is not None
        if batch.status == states.BatchStatus.FAILED:
            found[batch.number].errors = line_errors(session, batch.number, limit=errors)
    _count_in_flight(session, found)
    _add_webhooks(session, batches, found)
    _add_etas(session, batches, found)
    resting = scopes.paused(session)
    keys = _over_budget(session, found)
    if resting:
        _add_detours(session, [batch.number for batch in batches if batch.allow_fallback and batch.number], found)
    for batch in batches:
        assert batch.number is not None
        if batch.status not in states.AT_REST:
            progress = found[batch.number]
            progress.blocks = [*keys.get(batch.number, ()), *_blocks(batch, progress, resting, scopes_of, serves)]
    return found


def now(session: Session) -> float:
    """By the clock of ``Block.since``."""
    return float(session.connection().execute(sqlalchemy.select(clock.now())).scalar_one())


def routes(session: Session, batch: Batch) -> Sequence[str]:
    """What the lines of the batch asked for."""
    return session.exec(select(Tally.route).where(Tally.batch == batch.number)).all()


def line_errors(session: Session, batch: int, *, limit: int, after: int = -1) -> list[LineError]:
    """Faulty lines in order. An error of the whole file has the line 0."""
    query = select(LineError).where(LineError.batch == batch, LineError.line > after)
    return list(session.exec(query.order_by(col(LineError.line)).limit(limit)))


def _count_in_flight(session: Session, found: dict[int, Progress]) -> None:
    query = sqlalchemy.select(col(Slice.batch), col(Slice.started)).where(
        col(Slice.batch).in_(found),
        col(Slice.state) == SliceState.LEASED,
        col(Slice.lease_until) > clock.now(),
        col(Slice.started) != "",
    )
    for batch, started in session.connection().execute(query):
        found[batch].in_flight += started.count(",") + 1


def _add_webhooks(session: Session, batches: Sequence[Batch], found: dict[int, Progress]) -> None:
    named = {batch.webhook_endpoint for batch in batches if batch.webhook_endpoint is not None}
    if not named:
        return
    query = select(WebhookEndpoint.id, WebhookEndpoint.url).where(col(WebhookEndpoint.id).in_(named))
    urls = {id: url for id, url in session.exec(query)}
    for batch in batches:
        found[batch.number or 0].webhook_url = urls.get(batch.webhook_endpoint or "")


def _add_etas(session: Session, batches: Sequence[Batch], found: dict[int, Progress]) -> None:
    running = [batch.number or 0 for batch in batches if batch.status == states.BatchStatus.IN_PROGRESS]
    if not running:
        return
    for number, eta in etas.fresh(session, running).items():
        found[number].done_at, found[number].seconds_left = eta.done_at, max(0.0, eta.seconds_left)


def _over_budget(session: Session, numbers: Collection[int]) -> dict[int, list[Block]]:
    statement = (
        sqlalchemy.select(BATCH.c.number, BATCH.c.over_budget_at, BATCH.c.over_budget_until, API_KEY.c.name)
        .join(API_KEY, API_KEY.c.id == BATCH.c.api_key)
        .where(BATCH.c.number.in_(numbers), BATCH.c.over_budget_until > clock.now())
    )
    return {
        row.number: [
            Block(
                scope=row.name,
                reason="budget",
                since=row.over_budget_at,
                detail=f"until {purses.utc(row.over_budget_until)}",
            )
        ]
        for row in session.connection().execute(statement)
    }


def _add_detours(session: Session, numbers: Collection[int], found: dict[int, Progress]) -> None:
    if not numbers:
        return
    statement = (
        sqlalchemy.select(col(Slice.batch), col(Slice.route), col(Slice.trail))
        .where(col(Slice.batch).in_(numbers), col(Slice.trail) != "", col(Slice.state) != SliceState.DONE)
        .distinct()
    )
    for batch, route, trail in session.connection().execute(statement):
        found[batch].detours.add(trails.serving(route, trail))


def _blocks(
    batch: Batch,
    progress: Progress,
    resting: dict[str, scopes.PausedScope],
    scopes_of: Callable[[str], Collection[str]],
    serves: Callable[[str], bool],
) -> list[Block]:
    blocks: list[Block] = []
    if batch.capped_at is not None:
        blocks.append(Block(reason="max_cost", since=batch.capped_at))
    waiting = [tally for tally in progress.tallies if tally.lines > tally.completed + tally.failed]
    for tally in waiting:
        if tally.paused_at is not None:
            blocks.append(
                Block(model=tally.route, reason=UNKNOWN_COST, since=tally.paused_at)
                if tally.alike_code == UNKNOWN_COST
                else Block(model=tally.route, reason="failing_alike", since=tally.paused_at, detail=tally.alike_code)
            )
    spent: set[str] = set()
    for tally in waiting:
        try:
            spent.update(scopes_of(tally.route))
        except RouteError as error:
            blocks.append(_lost(batch, tally.route, error))
    for route in progress.detours:
        with contextlib.suppress(RouteError):
            spent.update(scopes_of(route))
    for scope in sorted(spent & resting.keys()):
        rest = resting[scope]
        blocks.append(Block(scope=scope, reason=rest.reason, since=rest.paused_at, detail=rest.detail))
    providers = {scope.partition("/")[0] for scope in spent - resting.keys()}
    if batch.status == states.BatchStatus.IN_PROGRESS and not progress.in_flight:
        blocks += [_unserved(batch, provider) for provider in sorted(providers) if not serves(provider)]
    return blocks


def _unserved(batch: Batch, provider: str) -> Block:
    detail = (
        f"no worker calls {provider}: start 'gristmill worker', or, if it is new in gristmill.yaml, the server anew"
    )
    return Block(scope=provider, reason="no_worker", since=batch.blocked_since or _began(batch), detail=detail)


def _lost(batch: Batch, route: str, error: RouteError) -> Block:
    """Nobody noted when that began; the detail says what to set."""
    since = batch.blocked_since or _began(batch)
    return Block(model=route, reason=_LOST.get(error.code, error.code), since=since, detail=str(error))


def _began(batch: Batch) -> float:
    return batch.in_progress_at or batch.created_at
