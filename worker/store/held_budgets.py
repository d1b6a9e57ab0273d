"""What held jobs may cost: who waits for an answer hears at once that there will be none."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlmodel import Session

from worker.store import batches, purses
from worker.store.intake import NewJob
from worker.tables import API_KEY


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One request: its key, its job, estimated pico-USD an input and an output token, and what its client allows."""

    api_key: str | None
    job: NewJob
    prices: tuple[int | None, int | None]
    max_cost: int | None
    allow_unknown_cost: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """What the job's row says."""

    max_cost: int | None
    allow_unknown_cost: bool


def terms(session: Session, asked: Sequence[Asked]) -> list[Terms]:
    """Raises batches.BudgetSpent, TooDear or UnknownCost."""
    ids = {one.api_key for one in asked if one.api_key is not None}
    if not ids:
        return [Terms(max_cost=one.max_cost, allow_unknown_cost=one.allow_unknown_cost) for one in asked]
    for id in ids:
        batches.refuse_if_spent(session, id)
    columns = (API_KEY.c.id, API_KEY.c.name, API_KEY.c.allow_unknown_cost)
    budgets = (API_KEY.c.budget_day, API_KEY.c.budget_month, API_KEY.c.budget_batch)
    rows = session.connection().execute(select(*columns, *budgets).where(API_KEY.c.id.in_(ids)))
    keys = {row.id: row for row in rows}
    return [_terms(one, keys.get(one.api_key)) for one in asked]


def _terms(asked: Asked, key: Any) -> Terms:
    if key is None:
        return Terms(max_cost=asked.max_cost, allow_unknown_cost=asked.allow_unknown_cost)
    caps = [sum for sum in (asked.max_cost, key.budget_batch) if sum is not None]
    input_price, output_price = asked.prices
    if input_price is None or output_price is None:
        if purses.has_budget(key) and not key.allow_unknown_cost:
            raise batches.UnknownCost(key.name)
    elif key.budget_batch is not None:
        estimate = asked.job.input_tokens * input_price + asked.job.output_tokens * output_price
        if estimate > key.budget_batch:
            raise batches.TooDear(key.name, estimate, key.budget_batch)
    return Terms(
        max_cost=min(caps, default=None), allow_unknown_cost=asked.allow_unknown_cost or key.allow_unknown_cost
    )
