"""/v1/usage."""

import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query

from api import errors, schemas
from api.deps import CallerDep, ServicesDep
from worker.store import usage
from worker.store.usage import By

router = APIRouter(prefix="/v1/usage", tags=["usage"])


@router.get("", responses=schemas.error_responses(400, 403))
def sums(
    services: ServicesDep,
    caller: CallerDep,
    by: By = "day",
    first: Annotated[datetime.date | None, Query(alias="from")] = None,
    last: Annotated[datetime.date | None, Query(alias="to")] = None,
    all_owners: bool = False,
) -> schemas.UsageList:
    """Sums of the calls that began on the UTC days ``from`` to ``to``, both included.

    By key, calls without one are under ``none``. ``all_owners`` is for the server machine's own user.
    ``cost_usd`` is the known part: where ``unknown_cost`` calls are not 0 it is a lower bound, and null if nothing is.
    """
    if all_owners and caller.api_key is not None:
        raise errors.Forbidden(
            "Only the user of the server's own machine may see all owners.", param="all_owners", code="not_allowed"
        )
    with services.database.read() as session:
        found = usage.sums(session, None if all_owners else caller.owner, by, first=_day(first), last=_day(last))
    return schemas.UsageList(by=by, data=[_row(row) for row in found])


def _day(date: datetime.date | None) -> str | None:
    return None if date is None else date.isoformat()


def _row(row: Any) -> schemas.UsageSum:
    values = dict(row._mapping)
    cost = values.pop("cost_usd")
    return schemas.UsageSum(
        key=values.pop("key"),
        cost_usd=cost,
        **{name: None if value is None else int(value) for name, value in values.items()},
    )
