"""All files of an owner as one list: uploaded ones, and the output and error files that are queries over results."""

from dataclasses import dataclass
from typing import Any

import sqlalchemy
from sqlalchemy import Select, String, literal
from sqlmodel import Session, col

from worker import clock, states
from worker.states import BatchStatus, Kind
from worker.store import batches, expiry, files
from worker.tables import Batch, File

OUTPUT_PURPOSE = "batch_output"


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A file as its owner sees it."""

    id: str
    bytes: int
    created_at: float
    filename: str
    purpose: str
    expires_at: float | None


def page(
    session: Session, owner: str, *, limit: int, newest_first: bool, purpose: str | None, after: Entry | None
) -> list[Entry]:
    """Of a batch with several generations only the newest files are listed; the older ones are found by id."""
    rows = sqlalchemy.union_all(_uploads(owner), _outputs(owner, "output"), _outputs(owner, "error")).subquery()
    key = sqlalchemy.tuple_(rows.c.created_at, rows.c.id)
    query = sqlalchemy.select(rows).limit(limit)
    if purpose is not None:
        query = query.where(rows.c.purpose == purpose)
    if after is not None:
        cursor = sqlalchemy.tuple_(literal(after.created_at), literal(after.id))
        query = query.where(key < cursor if newest_first else key > cursor)
    columns = (rows.c.created_at, rows.c.id)
    query = query.order_by(*(column.desc() if newest_first else column for column in columns))
    return [Entry(**row) for row in session.connection().execute(query).mappings()]


def upload_entry(file: File) -> Entry:
    return Entry(
        id=file.id,
        bytes=file.bytes,
        created_at=file.created_at,
        filename=file.filename,
        purpose=file.purpose,
        expires_at=file.expires_at,
    )


def ended_at(batch: Batch) -> float | None:
    """When the batch came to rest, or None while it has not."""
    match batch.status:
        case BatchStatus.COMPLETED:
            return batch.completed_at
        case BatchStatus.EXPIRED:
            return batch.expired_at
        case BatchStatus.CANCELLED:
            return batch.cancelled_at
        case BatchStatus.FAILED:
            return batch.failed_at
    return None


def _uploads(owner: str) -> Select[*tuple[Any, ...]]:
    return sqlalchemy.select(
        col(File.id),
        col(File.bytes),
        col(File.created_at),
        col(File.filename),
        col(File.purpose),
        col(File.expires_at),
    ).where(col(File.owner) == owner, files.visible())


def _outputs(owner: str, kind: str) -> Select[*tuple[Any, ...]]:
    size = col(Batch.output_bytes if kind == "output" else Batch.error_bytes)
    id = (
        literal("file-")
        .concat(sqlalchemy.func.substr(col(Batch.id), 7))
        .concat(kind[0])
        .concat(sqlalchemy.cast(col(Batch.generation), String))
    )
    expires = expiry.expires()
    return sqlalchemy.select(
        id.label("id"),
        size.label("bytes"),
        expiry.ended().label("created_at"),
        col(Batch.id).concat(f"_{kind}.jsonl").label("filename"),
        literal(OUTPUT_PURPOSE).label("purpose"),
        expires.label("expires_at"),
    ).where(
        col(Batch.owner) == owner,
        col(Batch.kind) == Kind.BATCH,
        batches.visible(),
        col(Batch.status).in_(list(states.AT_REST)),
        size > 0,
        sqlalchemy.or_(expires.is_(None), expires > clock.now()),
        ~sqlalchemy.exists().where(col(File.id) == id),
    )
