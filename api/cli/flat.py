"""``gristmill results --flat``: a batch as a table, for notebooks and spreadsheets."""

import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from api import schemas
from api.cli import faults, outputs, parquet, vectors
from api.cli.client import Client

FORMATS = ("jsonl", "csv", "parquet", "npy")
BINARY = ("parquet", "npy")
JOINED = "request"
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes text that begins so for a formula, which may read files or send data away."""

Row = dict[str, Any]


def write(client: Client, batch: schemas.Batch, kind: str, out: Path | None, join: Path | None) -> None:
    """To ``out``, written whole or not at all, or to standard output. Raises UsageFault."""
    if kind in BINARY and out is None:
        raise faults.UsageFault(f"--flat {kind} is not text: say where to write it with -o.")
    if kind == "npy":
        if join is not None:
            raise faults.UsageFault("--join adds columns, and --flat npy has none: use another format.")
        return vectors.write(client, batch, _named(out))
    with client.rows(batch.id) as found:
        rows = found if join is None else joined(found, join)
        if kind == "parquet":
            return parquet.write(rows, _named(out), with_request=join is not None)
        chunks = csv_chunks(rows, with_request=join is not None) if kind == "csv" else map(_jsonl, rows)
        if out is None:
            for chunk in chunks:
                click.echo(chunk, nl=False)
            sys.stdout.flush()
        else:
            outputs.replace(out, chunks)


def joined(rows: Iterable[Row], file: Path) -> Iterator[Row]:
    """Each row with the ``request`` (the body) of its line in the input file. Raises UsageFault."""
    try:
        with file.open("rb") as lines:
            number = 0
            for row in rows:
                line = b""
                while number < row["line"]:
                    line, number = lines.readline(), number + 1
                yield _join(row, line, file)
    except OSError as error:
        raise faults.UsageFault(f"{file} cannot be read: {error.strerror}.") from None


def csv_chunks(rows: Iterable[Row], *, with_request: bool) -> Iterator[bytes]:
    """UTF-8 with a head. Text that a spreadsheet would run as a formula gets an apostrophe before it."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns(with_request))
    for row in rows:
        writer.writerow([_cell(row[name]) for name in columns(with_request)])
        if buffer.tell() > 1 << 16:
            yield _taken(buffer)
    yield _taken(buffer)


def columns(with_request: bool) -> list[str]:
    return [*parquet.COLUMNS, *([JOINED] if with_request else [])]


def _join(row: Row, line: bytes, file: Path) -> Row:
    try:
        asked = json.loads(line.decode("utf-8-sig"))
    except ValueError:
        asked = {}
    asked = asked if isinstance(asked, dict) else {}
    if row["custom_id"] is not None and asked.get("custom_id") != row["custom_id"]:
        raise faults.UsageFault(
            f"{file}, line {row['line']} is not {row['custom_id']!r}: --join needs the file that was submitted."
        )
    metadata = asked.get("metadata") if row["metadata"] is None else row["metadata"]
    return {**row, "metadata": metadata, JOINED: asked.get("body")}


def _cell(value: Any) -> Any:
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace").decode()
    if isinstance(value, str) and value.startswith(FORMULA):
        return "'" + value
    return value


def _taken(buffer: io.StringIO) -> bytes:
    text = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return text.encode("utf-8", "replace")


def _jsonl(row: Row) -> bytes:
    return json.dumps(row).encode() + b"\n"


def _named(out: Path | None) -> Path:
    assert out is not None
    return out
