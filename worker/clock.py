"""The database's clock as an SQL element: the only clock that two machines agree on."""

from typing import Any

from sqlalchemy import Float
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

SQLITE_NOW = "((julianday('now') - 2440587.5) * 86400.0)"
POSTGRES_NOW = "extract(epoch from clock_timestamp())::float8"


class now(FunctionElement[float]):
    """Unix seconds with fraction, read from the database at execution."""

    type = Float()
    name = "gristmill_now"
    inherit_cache = True


@compiles(now, "sqlite")
def _sqlite(element: now, compiler: Any, **kw: Any) -> str:
    return SQLITE_NOW


@compiles(now, "postgresql")
def _postgresql(element: now, compiler: Any, **kw: Any) -> str:
    return POSTGRES_NOW
