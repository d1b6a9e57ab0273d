"""What an owner's calls used and cost, summed from the view ``usage``."""

from typing import Any, Literal

import sqlalchemy
from sqlmodel import Session

By = Literal["day", "model", "provider", "batch", "key", "owner"]

COLUMNS = {"key": "COALESCE(api_key, 'none')"}
"""What a word of ``By`` is in the view, where it is not a column's name."""


def sums(
    session: Session, owner: str | None, by: By, *, first: str | None = None, last: str | None = None
) -> list[Any]:
    """One row for each ``key``, in its order; of all owners if ``owner`` is None.

    Days are UTC (``2026-11-21``), ``last`` included; NULL is unknown.
    """
    column = COLUMNS.get(by, by)
    columns = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "attempts", "unknown_cost")
    added = ", ".join(f"SUM({name}) AS {name}" for name in columns)
    statement = sqlalchemy.text(
        f"SELECT {column} AS key, {added}, CASE WHEN SUM(unknown_cost) > 0 AND COALESCE(SUM(cost_usd), 0) = 0"
        " THEN NULL ELSE SUM(cost_usd) END AS cost_usd"
        f" FROM usage WHERE {'1 = 1' if owner is None else 'owner = :owner'} AND day >= :first AND day <= :last"
        f" GROUP BY {column} ORDER BY {column}"
    )
    wanted = {
        **({} if owner is None else {"owner": owner}),
        "first": first or "0000-00-00",
        "last": last or "9999-99-99",
    }
    return list(session.connection().execute(statement, wanted).all())
