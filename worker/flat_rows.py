"""A batch as a table: one flat row a line, in input order, with what was asked, answered, used and paid."""

from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy
from sqlmodel import col

from providers import json_text
from worker import tables
from worker.blobs import BlobMissing, Blobs
from worker.database import Database
from worker.intake import reader
from worker.store import expiry
from worker.tables import Batch, Result

LINES = 100
"""Whose answers are in memory at a time."""
FACTS = 5_000
"""Lines of which all else is: SQLite passes over the whole batch for each such page (35 ms at 200,000 lines)."""

_RESULTS = sqlalchemy.text("SELECT * FROM results WHERE batch = :batch AND job BETWEEN :first AND :last ORDER BY job")


def stream(database: Database, blobs: Blobs, batch: Batch) -> Iterator[dict[str, Any]]:
    """Every line that was read so far. Lines without a result are there too, and say ``pending``."""
    assert batch.number is not None
    metadata = _Metadata(blobs, batch.input_file_id)
    end = tables.job_id(batch.number, batch.intake_line)
    for start in range(tables.job_id(batch.number, 1), end + 1, FACTS):
        last = min(start + FACTS - 1, end)
        with database.read() as session:
            wanted = {"batch": batch.id, "first": start, "last": last}
            found = session.connection().execute(_RESULTS, wanted).mappings().all()
            expiry.check(session, batch.number)
        for some in (found[place : place + LINES] for place in range(0, len(found), LINES)):
            with database.read() as session:
                rows = session.connection().execute(_answers(some[0]["job"], some[-1]["job"]))
                answers = {job: line for job, line in rows}
                expiry.check(session, batch.number)
            for row in some:
                yield _flat(row, answers.get(row["job"]), batch, metadata.of(row["line"]))


def _answers(first: int, last: int) -> Any:
    standing = col(Result.job).between(first, last), col(Result.superseded_in).is_(None)
    return sqlalchemy.select(col(Result.job), col(Result.line)).where(*standing)


def _flat(row: Mapping[Any, Any], answer: bytes | None, batch: Batch, metadata: Any) -> dict[str, Any]:
    said = json_text.loads(answer) if answer is not None and row["state"] != "pending" else {}
    body = _body(said)
    choice = _choice(body)
    began, took = row["first_call_at"], row["service_seconds"]
    return {
        "line": row["line"],
        "custom_id": row["custom_id"],
        "model": row["model"],
        "served_model": row["served_model"],
        "provider": row["provider"],
        "fallback": row["fallback"],
        "state": row["state"],
        "text": _text(choice),
        "finish_reason": _string(choice.get("finish_reason")),
        "ending": row["ending"],
        "input_tokens": _whole(row["input_tokens"]),
        "cached_tokens": _whole(row["cached_tokens"]),
        "output_tokens": _whole(row["output_tokens"]),
        "reasoning_tokens": _whole(row["reasoning_tokens"]),
        "cost_usd": row["cost_usd"],
        "unknown_cost": row["unknown_cost"],
        "cost_source": row["cost_source"],
        "attempts": row["attempts"],
        "queue_ms": None if began is None else max(0, round(1_000 * (began - batch.created_at))),
        "service_ms": None if took is None else round(1_000 * took),
        "status_code": row["status_code"],
        "error_code": row["error_code"],
        "error_message": _message(said.get("error")) or _message(body.get("error")),
        "generation": row["generation"],
        "metadata": metadata,
    }


def _body(said: dict[str, Any]) -> dict[str, Any]:
    """What the provider answered, in the format of either surface."""
    result = said.get("result") or {}
    found = (said.get("response") or {}).get("body") or result.get("message") or result.get("error")
    return found if isinstance(found, dict) else {}


def _choice(body: dict[str, Any]) -> dict[str, Any]:
    """The first choice; a Message is one itself."""
    if body.get("type") == "message":
        return {"message": body, "finish_reason": body.get("stop_reason")}
    choices = body.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else {}


def _text(choice: dict[str, Any]) -> str | None:
    message = choice.get("message")
    content = message.get("content") if isinstance(message, dict) else choice.get("text")
    if isinstance(content, list):
        content = "".join(part["text"] for part in content if isinstance(part, dict) and _string(part.get("text")))
    return _string(content)


def _message(error: Any) -> str | None:
    return _string(error.get("message")) if isinstance(error, dict) else None


def _string(value: Any) -> str | None:
    """Text that can be written: a lone surrogate becomes a question mark."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else None


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)


class _Metadata:
    """Of the lines of the input file, asked for in order; nothing if the file was erased."""

    def __init__(self, blobs: Blobs, input_file: str) -> None:
        self._lines = _read(blobs, input_file)
        self._next: tuple[int, Any] | None = (0, None)

    def of(self, line: int) -> Any:
        while self._next is not None and self._next[0] < line:
            self._next = next(self._lines, None)
        return self._next[1] if self._next is not None and self._next[0] == line else None


def _read(blobs: Blobs, input_file: str) -> Iterator[tuple[int, Any]]:
    try:
        blob = blobs.open(input_file)
    except BlobMissing:
        return
    with blob:
        for raw in reader.read(blob, line=0, offset=0):
            if raw.bytes is not None and b'"metadata"' in raw.bytes:
                yield raw.number, _metadata_of(raw.bytes)


def _metadata_of(line: bytes) -> Any:
    try:
        fields = json_text.loads(line)
    except (ValueError, RecursionError):
        return None
    found = fields.get("metadata") if isinstance(fields, dict) else None
    return found if isinstance(found, dict) else None
