"""What the holders of API keys may still spend.

A call's cost counts in the UTC day and month in which it ends, by the database's clock; what is in flight counts
against both. Whoever changes a purse holds its key's row. Lock order: batch, key, slice.
"""

import datetime
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from sqlalchemy import ColumnElement, Connection, and_, or_, select, update
from sqlmodel import Session

from worker import clock
from worker.database import executemany
from worker.tables import API_KEY, BATCH, SPEND, TALLY, Batch

REFUSE = "refuse"
PICO = 10**12

ADD_SPEND = """INSERT INTO spend (api_key, period, owner, cost) VALUES (?,?,?,?)
 ON CONFLICT (api_key, period) DO UPDATE SET cost = spend.cost + excluded.cost"""


class Rules(Protocol):
    """What a key's row says of its money."""

    @property
    def budget_day(self) -> int | None: ...
    @property
    def budget_month(self) -> int | None: ...
    @property
    def budget_batch(self) -> int | None: ...


def has_budget(key: Rules) -> bool:
    """Whether what its calls cost matters."""
    return any(limit is not None for limit in (key.budget_day, key.budget_month, key.budget_batch))


@dataclass(kw_only=True, slots=True)
class Budget:
    """What may be spent in a period, None is no limit; what was; and when the period ends. Money is pico-USD."""

    period: str
    limit: int | None
    ends_at: float
    spent: int = 0


@dataclass(kw_only=True, slots=True)
class Purse:
    """A key's money."""

    key: str
    name: str
    owner: str
    refuses: bool
    allows_unknown: bool
    budgets: tuple[Budget, Budget]
    reserved: int
    added: int = field(default=0)

    @property
    def is_limited(self) -> bool:
        return any(budget.limit is not None for budget in self.budgets)

    def fits(self, cost: int) -> bool:
        """Whether a call of this estimated cost may begin."""
        return not any(self._exceeded(cost))

    def ends_at(self, cost: int) -> float:
        """When the last of the periods ends in which such a call does not fit."""
        return max(budget.ends_at for budget in self._exceeded(cost))

    def left(self) -> int | None:
        """What no budget forbids; None is no limit."""
        return min((b.limit - b.spent - self.reserved for b in self.budgets if b.limit is not None), default=None)

    def spend(self, cost: int) -> None:
        self.added += cost
        for budget in self.budgets:
            budget.spent += cost

    def _exceeded(self, cost: int) -> Iterable[Budget]:
        for budget in self.budgets:
            if budget.limit is not None and budget.spent + self.reserved + cost > budget.limit:
                yield budget


def needs_prices() -> ColumnElement[bool]:
    """Of a batch: no call of unknown cost may begin."""
    budgets = (API_KEY.c.budget_day, API_KEY.c.budget_month)
    key = select(API_KEY.c.id).where(API_KEY.c.id == BATCH.c.api_key, or_(*(one.is_not(None) for one in budgets)))
    limited = or_(BATCH.c.max_cost.is_not(None), key.exists())
    forbidden_by_key = key.where(API_KEY.c.allow_unknown_cost.is_(False)).exists()
    return or_(forbidden_by_key, and_(BATCH.c.allow_unknown_cost.is_(False), limited))


def load(connection: Connection, keys: Collection[str], now: float, *, lock: bool) -> dict[str, Purse]:
    """The purses of these keys, by id. Spends are read after the lock, so that they are the present ones."""
    if not keys:
        return {}
    statement = select(API_KEY).where(API_KEY.c.id.in_(keys)).order_by(API_KEY.c.id)
    rows = connection.execute(statement.with_for_update() if lock else statement).all()
    (day, day_ends), (month, month_ends) = _day(now), _month(now)
    spends = connection.execute(
        select(SPEND.c.api_key, SPEND.c.period, SPEND.c.cost).where(
            SPEND.c.api_key.in_(keys), SPEND.c.period.in_((day, month))
        )
    ).all()
    spent = {(row.api_key, row.period): int(row.cost) for row in spends}
    return {
        row.id: Purse(
            key=row.id,
            name=row.name,
            owner=row.owner,
            refuses=row.over_budget == REFUSE,
            allows_unknown=row.allow_unknown_cost,
            reserved=row.reserved,
            budgets=(
                Budget(period=day, limit=row.budget_day, ends_at=day_ends, spent=spent.get((row.id, day), 0)),
                Budget(period=month, limit=row.budget_month, ends_at=month_ends, spent=spent.get((row.id, month), 0)),
            ),
        )
        for row in rows
    }


def store(connection: Connection, purses: Iterable[Purse]) -> None:
    """Write what one transaction has changed."""
    changed = list(purses)
    if not changed:
        return
    executemany(
        connection, "UPDATE api_key SET reserved = ? WHERE id = ?", [(one.reserved, one.key) for one in changed]
    )
    spends = [(one.key, budget.period, one.owner, one.added) for one in changed if one.added for budget in one.budgets]
    executemany(connection, ADD_SPEND, spends)


def give_back(connection: Connection, key: str, cost: int) -> None:
    """Calls of this estimated cost are in flight no more, and what they did is not known."""
    connection.execute(update(API_KEY).where(API_KEY.c.id == key).values(reserved=API_KEY.c.reserved - cost))


def of(session: Session, key: str) -> Purse:
    """As it is now."""
    now = float(session.connection().execute(select(clock.now())).scalar_one())
    return load(session.connection(), [key], now, lock=False)[key]


def wake(session: Session, key: str) -> None:
    """The budgets have changed: the key's batches find out anew whether they may go on."""
    session.connection().execute(
        update(BATCH)
        .where(BATCH.c.api_key == key, BATCH.c.over_budget_until.is_not(None))
        .values(over_budget_at=None, over_budget_until=None)
    )


def is_spent(session: Session, purse: Purse) -> bool:
    """Whether calls wait for another period already."""
    left = purse.left()
    if left is None:
        return False
    waiting = select(BATCH.c.number).where(BATCH.c.api_key == purse.key, BATCH.c.over_budget_until > clock.now())
    return left <= 0 or (purse.reserved == 0 and session.connection().execute(waiting.limit(1)).first() is not None)


def shortage(session: Session, batch: Batch) -> str | None:
    """Why a key that refuses cannot pay this batch, by its estimate; None if it can."""
    if batch.api_key is None:
        return None
    purse = of(session, batch.api_key)
    left, needed = purse.left(), _estimate(session, batch)
    if left is None or not purse.refuses or needed <= left:
        return None
    return (
        f"This batch is estimated to cost ${needed / PICO:.4f}, and the API key '{purse.name}' has "
        f"${max(0, left) / PICO:.4f} left until {utc(purse.ends_at(needed))}. Send fewer lines, set a max_cost, "
        "or ask this server's operator for a higher budget."
    )


def utc(moment: float) -> str:
    return f"{datetime.datetime.fromtimestamp(moment, datetime.UTC):%Y-%m-%d %H:%M} UTC"


def _estimate(session: Session, batch: Batch) -> int:
    """Of the lines whose price is known; never more than the batch's own cap."""
    tallies = session.connection().execute(select(TALLY).where(TALLY.c.batch == batch.number))
    known: int = sum(
        row.estimated_input_tokens * row.input_price + row.estimated_output_tokens * row.output_price
        for row in tallies
        if row.input_price is not None
    )
    return known if batch.max_cost is None else min(known, batch.max_cost)


def _day(now: float) -> tuple[str, float]:
    """Its name, and when it ends."""
    date = datetime.datetime.fromtimestamp(now, datetime.UTC).date()
    return date.isoformat(), _begin(date + datetime.timedelta(days=1))


def _month(now: float) -> tuple[str, float]:
    date = datetime.datetime.fromtimestamp(now, datetime.UTC).date()
    return f"{date:%Y-%m}", _begin((date.replace(day=1) + datetime.timedelta(days=32)).replace(day=1))


def _begin(date: datetime.date) -> float:
    return datetime.datetime.combine(date, datetime.time(), datetime.UTC).timestamp()
