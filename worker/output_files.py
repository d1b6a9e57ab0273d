"""Output and error files: queries over results that look like files. Their ids are derived and stored nowhere.

A file of generation g holds the rows with generation <= g that g has not superseded, so old ids keep their bytes.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy
from sqlalchemy import ColumnElement
from sqlmodel import Session, col

from worker import clock, states
from worker.database import Database
from worker.store import batches, expiry, listing
from worker.store.listing import Entry
from worker.tables import LINE_BITS, Batch, Event, File, Result

Kind = Literal["output", "error"]

ROWS = 1_000
CHUNK = 4 << 20
"""Bytes of lines that are in memory at a time; a single longer line makes a longer chunk."""

_ID = re.compile(r"file-([a-z0-9]{24})([oe])([1-9][0-9]{0,8})")
KINDS: dict[str, Kind] = {"o": "output", "e": "error"}


class Unfinished(Exception):
    """The file is still being written."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputFile:
    """One kind of lines of one generation of a batch, as it stood when it was looked up."""

    entry: Entry
    batch: int
    kind: Kind
    generation: int
    complete: bool
    lines: int
    seq: int
    """Rows committed later are not part of it."""


def file_id(batch: Batch, kind: Kind, generation: int | None = None) -> str:
    """The id of the file of that generation, by default the present one."""
    return f"file-{batch.id.rpartition('_')[2]}{kind[0]}{generation or batch.generation}"


def find(session: Session, owner: str, id: str) -> OutputFile | None:
    """The file of that id. A file without lines exists only while its batch may still write some."""
    parsed = _ID.fullmatch(id)
    batch = _batch(session, owner, parsed[1]) if parsed else None
    if parsed is None or batch is None or batch.number is None or int(parsed[3]) > batch.generation:
        return None
    kind, generation = KINDS[parsed[2]], int(parsed[3])
    complete = generation < batch.generation or batch.status in states.AT_REST
    size, lines = _measure(session, batch, kind, generation)
    if (complete and size == 0) or session.get(File, id) is not None:
        return None
    created_at = _created_at(session, batch, generation)
    expires_at = created_at + batch.output_expires_after if complete and batch.output_expires_after else None
    if expires_at is not None and expires_at <= _now(session):
        return None
    entry = Entry(
        id=id,
        bytes=size,
        created_at=created_at,
        filename=f"{batch.id}_{kind}.jsonl",
        purpose=listing.OUTPUT_PURPOSE,
        expires_at=expires_at,
    )
    return OutputFile(
        entry=entry,
        batch=batch.number,
        kind=kind,
        generation=generation,
        complete=complete,
        lines=lines,
        seq=batch.seq,
    )


def delete(session: Session, owner: str, id: str) -> bool:
    """Hide the file for good; its lines stay with the batch, as a later generation may hold them. Raises Unfinished."""
    file = find(session, owner, id)
    if file is None:
        return False
    if not file.complete:
        raise Unfinished
    now = _now(session)
    tombstone = File(
        id=id,
        owner=owner,
        purpose=file.entry.purpose,
        filename=file.entry.filename,
        bytes=file.entry.bytes,
        sha256="",
        created_at=file.entry.created_at,
        deleted_at=now,
        erased_at=now,
    )
    session.add(tombstone)
    session.flush()
    return True


def in_line_order(database: Database, file: OutputFile) -> Iterator[bytes]:
    """The lines in input order, in chunks of whole lines: the same bytes every time once the file is complete."""
    return _chunks(database, _by_line(file), file.batch << LINE_BITS, 0)


def in_commit_order(database: Database, file: OutputFile, *, offset: int = 0) -> Iterator[bytes]:
    """The lines in the order in which they were stored, without the first ``offset``: what a follower reads."""
    return _chunks(database, _by_commit(file), -1, offset)


def whole(database: Database, batch: Batch) -> Iterator[bytes]:
    """All lines of a batch at rest, output and errors together, in input order."""
    assert batch.number is not None
    rows = (*_of_batch(batch.number), *_of_generation(batch.generation))
    return _chunks(database, _Order(batch.number, col(Result.job), rows), batch.number << LINE_BITS, 0)


@dataclass(frozen=True, slots=True)
class _Order:
    """Rows of a file and the column that orders them."""

    batch: int
    key: Any
    rows: tuple[ColumnElement[bool], ...]


def _by_line(file: OutputFile) -> _Order:
    snapshot = () if file.complete else (col(Result.seq) <= file.seq,)
    return _Order(
        file.batch, col(Result.job), (*_of_batch(file.batch), *_standing(file.kind, file.generation), *snapshot)
    )


def _by_commit(file: OutputFile) -> _Order:
    rows = (col(Result.batch) == file.batch, col(Result.seq) <= file.seq)
    return _Order(file.batch, col(Result.seq), (*rows, *_standing(file.kind, file.generation)))


def _chunks(database: Database, order: _Order, after: int, offset: int) -> Iterator[bytes]:
    while spans := _spans(database, order, after, offset):
        offset = 0
        for first, last in spans:
            yield _read(database, order, first, last)
            after = last


def _spans(database: Database, order: _Order, after: int, offset: int) -> list[tuple[int, int]]:
    """The keys of the next rows, cut where their lines would pass a chunk."""
    query = (
        sqlalchemy.select(order.key, sqlalchemy.func.length(col(Result.line)))
        .where(order.key > after, *order.rows)
        .order_by(order.key)
        .limit(ROWS)
        .offset(offset)
    )
    with database.read() as session:
        rows = session.connection().execute(query).all()
        expiry.check(session, order.batch)
    spans: list[tuple[int, int]] = []
    size = 0
    for key, length in rows:
        size += length
        if spans and size <= CHUNK:
            spans[-1] = (spans[-1][0], key)
        else:
            spans.append((key, key))
            size = length
    return spans


def _read(database: Database, order: _Order, first: int, last: int) -> bytes:
    query = sqlalchemy.select(col(Result.line)).where(order.key >= first, order.key <= last, *order.rows)
    with database.read() as session:
        lines = b"".join(session.connection().execute(query.order_by(order.key)).scalars())
        expiry.check(session, order.batch)
    return lines


def _measure(session: Session, batch: Batch, kind: Kind, generation: int) -> tuple[int, int]:
    """Bytes and lines: from the batch's counters, or summed for a generation that is no more counted."""
    if generation == batch.generation:
        return (batch.output_bytes, batch.completed) if kind == "output" else (batch.error_bytes, batch.failed)
    assert batch.number is not None
    size = sqlalchemy.func.sum(sqlalchemy.func.length(col(Result.line)))
    query = sqlalchemy.select(sqlalchemy.func.coalesce(size, 0), sqlalchemy.func.count())
    rows = query.where(*_of_batch(batch.number), *_standing(kind, generation))
    found = session.connection().execute(rows).one()
    return int(found[0]), int(found[1])


def _of_batch(number: int) -> tuple[ColumnElement[bool], ...]:
    """By range of jobs and not by ``batch``, so that no planner prefers the index on ``seq`` and sorts."""
    return col(Result.job) >= number << LINE_BITS, col(Result.job) < (number + 1) << LINE_BITS


def _standing(kind: Kind, generation: int) -> tuple[ColumnElement[bool], ...]:
    return (col(Result.kind) == kind, *_of_generation(generation))


def _of_generation(generation: int) -> tuple[ColumnElement[bool], ...]:
    return (
        col(Result.generation) <= generation,
        sqlalchemy.or_(col(Result.superseded_in).is_(None), col(Result.superseded_in) > generation),
    )


def _batch(session: Session, owner: str, word: str) -> Batch | None:
    found = (batches.get(session, owner, f"{prefix}{word}") for prefix in ("batch_", "msgbatch_"))
    return next(filter(None, found), None)


def _created_at(session: Session, batch: Batch, generation: int) -> float:
    if generation == batch.generation:
        return listing.ended_at(batch) or batch.in_progress_at or batch.created_at
    query = sqlalchemy.select(sqlalchemy.func.min(Event.created_at)).where(
        col(Event.batch) == batch.number, col(Event.generation) == generation
    )
    return session.connection().execute(query).scalar_one() or batch.created_at


def _now(session: Session) -> float:
    return float(session.connection().execute(sqlalchemy.select(clock.now())).scalar_one())
