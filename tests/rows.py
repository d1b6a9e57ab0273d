"""Rows for tests of what is read: files, batches and results as the engine would have left them."""

from sqlmodel import Session

from worker import ids, tables
from worker.states import BatchStatus
from worker.store import batches, files
from worker.store.batches import NewBatch
from worker.tables import Batch, File, Result


def add_file(session: Session, *, owner: str = "local", purpose: str = "batch", size: int = 10) -> File:
    return files.add(
        session,
        id=ids.new_file(),
        owner=owner,
        purpose=purpose,
        filename="in.jsonl",
        size=size,
        sha256="0" * 64,
    )


def new_batch(file: File, *, fingerprint: str = "same", owner: str = "local", identity: str | None = None) -> NewBatch:
    return NewBatch(
        owner=owner,
        endpoint="/v1/chat/completions",
        input_file_id=file.id,
        completion_window="24h",
        window_seconds=60.0,
        fingerprint=fingerprint,
        identity=identity,
    )


def add_batch(session: Session, *, owner: str = "local", identity: str | None = None) -> Batch:
    batch, _ = batches.create(session, new_batch(add_file(session, owner=owner), owner=owner, identity=identity))
    return batch


def add_result(
    session: Session,
    batch: Batch,
    line: int,
    *,
    kind: str = "output",
    generation: int = 1,
    superseded_in: int | None = None,
    text: bytes | None = None,
) -> bytes:
    """As if the line had been answered now."""
    assert batch.number is not None
    stored = b'{"line":%d,"generation":%d}\n' % (line, generation) if text is None else text
    batch.seq += 1
    if superseded_in is None:
        batch.completed += kind == "output"
        batch.failed += kind == "error"
        batch.output_bytes += len(stored) if kind == "output" else 0
        batch.error_bytes += len(stored) if kind == "error" else 0
    session.add(batch)
    session.add(
        Result(
            job=tables.job_id(batch.number, line),
            generation=generation,
            owner=batch.owner,
            batch=batch.number,
            seq=batch.seq,
            kind=kind,
            line=stored,
            superseded_in=superseded_in,
        )
    )
    session.flush()
    return stored


def begin(session: Session, batch: Batch) -> Batch:
    batch.status, batch.in_progress_at = BatchStatus.IN_PROGRESS, batch.created_at + 1
    session.add(batch)
    session.flush()
    return batch


def end(session: Session, batch: Batch, status: BatchStatus = BatchStatus.COMPLETED) -> Batch:
    batch.status = status
    setattr(batch, f"{status.value}_at", batch.created_at + 2)
    session.add(batch)
    session.flush()
    return batch
