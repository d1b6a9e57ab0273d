"""Claims of held jobs: however many come with one message, they are a few statements, with the short bodies."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, select, update
from sqlmodel import Session

from worker import clock
from worker.states import JobState, SliceState
from worker.store.recording_rows import select_in
from worker.store.slices import Claim, ClaimedJob
from worker.tables import SLICE

SHORT_BODY = 16 << 10
"""Bytes of a body that is read with the claim; a longer one is read when its call begins."""

_NEEDS_PRICES = """batch.allow_fallback AND NOT batch.allow_unknown_cost AND (batch.max_cost IS NOT NULL OR EXISTS (
 SELECT 1 FROM api_key WHERE api_key.id = batch.api_key AND COALESCE(budget_day, budget_month) IS NOT NULL))"""
_HEADS = f"""SELECT slice.id, batch.id, batch.kind, tally.input_price, tally.output_price,
 batch.priority, tally.completed + tally.failed, batch.allow_fallback, {_NEEDS_PRICES},
 CASE WHEN length(request_body.body) <= {SHORT_BODY} THEN request_body.body END
 FROM slice JOIN batch ON batch.number = slice.batch
 JOIN tally ON tally.batch = slice.batch AND tally.route = slice.route
 LEFT JOIN request_body ON request_body.batch = slice.batch
 WHERE slice.id"""
_JOBS = f"""SELECT slice, not_before, id, custom_id, endpoint, generation, "offset", length, model_offset, model_length,
 input_tokens, output_tokens, attempts FROM job WHERE state = {JobState.PENDING.value} AND slice"""
_NOW = select(clock.now())
_FIELDS = tuple(name for name in ClaimedJob.__dataclass_fields__ if name != "wait")


def claim(session: Session, chosen: Iterable[tuple[int, int]], holder: str, lease_seconds: float) -> list[Claim]:
    """Take the leases of those (slice, epoch) pairs that nobody has; the others' messages were repeated ones."""
    connection = session.connection()
    by_epoch: dict[int, list[int]] = defaultdict(list)
    for slice, epoch in sorted(chosen):
        by_epoch[epoch].append(slice)
    taken = {
        row.id: row
        for epoch, slices in by_epoch.items()
        for row in _take(connection, slices, epoch, holder, lease_seconds)
    }
    jobs = _pending(connection, taken)
    return [
        Claim(
            slice=slice,
            epoch=taken[slice].epoch,
            owner=taken[slice].owner,
            batch=taken[slice].batch,
            batch_id=batch_id,
            kind=kind,
            route=taken[slice].route,
            alone=taken[slice].alone,
            input_file_id="",
            input_price=input_price,
            output_price=output_price,
            jobs=tuple(jobs[slice]),
            body=None if body is None else bytes(body),
            trail=taken[slice].trail,
            priority=priority,
            answered=answered,
            allow_fallback=bool(allow_fallback),
            is_limited=bool(is_limited),
        )
        for (
            slice,
            batch_id,
            kind,
            input_price,
            output_price,
            priority,
            answered,
            allow_fallback,
            is_limited,
            body,
        ) in select_in(connection, _HEADS, taken)
    ]


def _take(
    connection: Connection, slices: Sequence[int], epoch: int, holder: str, lease_seconds: float
) -> Sequence[Any]:
    if connection.dialect.name == "postgresql":
        mine = select(SLICE.c.id).where(SLICE.c.id.in_(slices))
        connection.execute(mine.order_by(SLICE.c.id).with_for_update()).all()
    statement = (
        update(SLICE)
        .where(
            SLICE.c.id.in_(slices),
            SLICE.c.epoch == epoch,
            SLICE.c.state.in_((SliceState.READY, SliceState.PUBLISHED)),
        )
        .values(
            state=SliceState.LEASED,
            epoch=epoch + 1,
            lease_owner=holder,
            lease_until=clock.now() + lease_seconds,
            not_before=None,
            started="",
        )
        .returning(*(SLICE.c[name] for name in ("id", "batch", "route", "trail", "owner", "alone", "epoch")))
    )
    return connection.execute(statement).all()


def _pending(connection: Connection, slices: Iterable[int]) -> dict[int, list[ClaimedJob]]:
    rows = select_in(connection, _JOBS, slices)
    waits = [not_before for _, not_before, *_ in rows if not_before is not None]
    now = float(connection.execute(_NOW).scalar_one()) if waits else 0.0
    found: dict[int, list[ClaimedJob]] = defaultdict(list)
    for slice, not_before, *fields in rows:
        values = dict(zip(_FIELDS, fields, strict=True))
        found[slice].append(ClaimedJob(**values, wait=max(0.0, not_before - now) if not_before else 0.0))
    return found
