"""Sums up attempts that are about to be deleted, so that what was used and paid is known for ever."""

import datetime
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session

from worker.states import Kind, Outcome
from worker.tables import USAGE_HISTORY

NANO = 10**9
TOKENS = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")
SUMS = ("attempts", "succeeded", "told", "billed", *TOKENS, "cost", "unknown_cost")


def add(session: Session, batch: Any, attempts: Iterable[Any]) -> None:
    """Count these attempts of a batch (its id, kind, owner and api_key). The same transaction must delete them."""
    sums: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: dict.fromkeys(SUMS, 0))
    for attempt in attempts:
        row = sums[_day(attempt.id), attempt.deployment.partition("@")[0]]
        row["attempts"] += 1
        row["succeeded"] += attempt.outcome == Outcome.SUCCEEDED
        row["told"] += attempt.input_tokens is not None
        row["billed"] += attempt.cost is None or attempt.cost != 0
        row["cost"] += attempt.cost or 0
        row["unknown_cost"] += attempt.cost is None
        for name in TOKENS:
            row[name] += getattr(attempt, name) or 0
    of_batch = {
        "owner": batch.owner,
        "batch": Kind.HELD.value if batch.kind == Kind.HELD else batch.id,
        "api_key": batch.api_key or "",
    }
    for (day, model), row in sorted(sums.items()):
        _add(session, {**of_batch, "day": day, "model": model, "provider": model.partition("/")[0], **row})


def _add(session: Session, values: dict[str, Any]) -> None:
    connection = session.connection()
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement: Any = insert(USAGE_HISTORY).values(values)
    more = {name: USAGE_HISTORY.c[name] + statement.excluded[name] for name in SUMS}
    connection.execute(statement.on_conflict_do_update(index_elements=list(USAGE_HISTORY.primary_key), set_=more))


def _day(nanoseconds: int) -> str:
    return datetime.datetime.fromtimestamp(nanoseconds // NANO, datetime.UTC).date().isoformat()
