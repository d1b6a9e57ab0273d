"""A held job as its owner is answered. The answer's body stays as the provider wrote it."""

from typing import Any

import orjson
from starlette.responses import Response

from api import present
from worker import output_line
from worker.states import JobState
from worker.store.held import Facts

STATUSES = {
    JobState.SUCCEEDED: "completed",
    JobState.FAILED: "failed",
    JobState.EXPIRED: "expired",
    JobState.CANCELLED: "cancelled",
}


def shown(facts: Facts) -> dict[str, Any]:
    """job_schemas.Job."""
    batch = facts.batch
    return {
        "id": batch.id,
        "object": "job",
        "status": STATUSES.get(facts.state, "in_progress" if facts.started or batch.attempts else "queued"),
        "custom_id": facts.custom_id,
        "url": batch.endpoint,
        "model": facts.route,
        "served_model": facts.served_model,
        "usage": present.usage(batch).model_dump(),
        "cost_usd": present.cost(batch.cost, batch.unknown_cost),
        "unknown_cost": batch.unknown_cost,
        "attempts": batch.attempts,
        "created_at": int(batch.created_at),
        "completed_at": present.seconds(batch.completed_at or batch.cancelled_at or batch.expired_at),
        "expires_at": present.seconds(batch.expires_at),
        "metadata": batch.metadata_,
        **_ending(facts.answer),
    }


def response(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, "application/json")


def _ending(line: bytes | None) -> dict[str, Any]:
    if line is None:
        return {"response": None, "error": None}
    said = output_line.read(line)
    body = orjson.Fragment(said.body)
    if said.code is not None:
        return {"response": None, "error": orjson.loads(said.body)["error"]}
    return {
        "response": {"status_code": said.status_code, "request_id": said.request_id, "body": body},
        "error": None,
    }
