"""Rows as a Parquet file, through pyarrow, which is installed only where it is wanted."""

import importlib
import itertools
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from api.cli import faults, outputs

ROWS = 1_000
"""In memory at a time; a row group has as many."""
COLUMNS = {
    "line": "int64",
    "custom_id": "string",
    "model": "string",
    "served_model": "string",
    "provider": "string",
    "fallback": "string",
    "state": "string",
    "text": "string",
    "finish_reason": "string",
    "ending": "string",
    "input_tokens": "int64",
    "cached_tokens": "int64",
    "output_tokens": "int64",
    "reasoning_tokens": "int64",
    "cost_usd": "float64",
    "unknown_cost": "int64",
    "cost_source": "string",
    "attempts": "int64",
    "queue_ms": "int64",
    "service_ms": "int64",
    "status_code": "int64",
    "error_code": "string",
    "error_message": "string",
    "generation": "int64",
    "metadata": "string",
}
"""Of every flat form, in this order. Objects are JSON text here."""
INSTALL = "pip install 'pyarrow>=21'"


def write(rows: Iterable[dict[str, Any]], out: Path, *, with_request: bool) -> None:
    """In one step. Raises UsageFault, also where pyarrow is missing."""
    arrow, parquet = _library()
    kinds = {**COLUMNS, **({"request": "string"} if with_request else {})}
    schema = arrow.schema([(name, getattr(arrow, kind)()) for name, kind in kinds.items()])
    with outputs.writing(out.parent), tempfile.TemporaryFile(dir=out.parent) as file:
        with parquet.ParquetWriter(file, schema) as writer:
            remaining = iter(rows)
            while some := list(itertools.islice(remaining, ROWS)):
                table = [{name: _plain(row[name]) for name in kinds} for row in some]
                writer.write_table(arrow.Table.from_pylist(table, schema=schema))
        file.seek(0)
        outputs.replace(out, iter(lambda: file.read(1 << 20), b""))


def _library() -> tuple[Any, Any]:
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise faults.UsageFault(f"--flat parquet needs pyarrow, which is not installed here: {INSTALL}") from None


def _plain(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict | list) else value
