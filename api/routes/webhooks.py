"""/v1/webhook_endpoints, as the OpenAI SDK manages them, and what became of each delivery."""

import asyncio
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel
from sqlmodel import Session
from starlette.responses import Response

from api import errors, faults, idempotency, schemas, webhook_schemas, webhook_targets
from api.deps import CallerDep, ServicesDep
from worker import ids, tables
from worker.store import webhook_secrets, webhooks
from worker.webhooks import event_types, sender, signature
from worker.webhooks.sender import Message

router = APIRouter(prefix="/v1", tags=["webhooks"])


class _Made(BaseModel):
    """What is stored for an Idempotency-Key: which endpoint was made, and never its secret."""

    endpoint: str


@router.get("/webhook_event_types")
def list_event_types() -> webhook_schemas.EventTypeList:
    return webhook_schemas.EventTypeList(data=[*event_types.ENDED, *event_types.WHILE_IT_RUNS])


@router.get("/webhook_secret")
def secret(services: ServicesDep, caller: CallerDep) -> webhook_schemas.Secret:
    """Your own, which signs the webhooks of batches with a ``webhook_url``. Made when it is first asked for."""
    return _secret(services.database.write(lambda session: webhook_secrets.of(session, caller.owner)))


@router.post("/webhook_secret/rotate", responses=schemas.error_responses(400))
def rotate_own_secret(
    services: ServicesDep, caller: CallerDep, body: webhook_schemas.SecretRotation | None = None
) -> webhook_schemas.Secret:
    keep = body is not None and body.keep_old_secret_active_for_24_hours
    return _secret(
        services.database.write(lambda session: webhook_secrets.rotate(session, caller.owner, keep_old=keep))
    )


@router.post(
    "/webhook_endpoints",
    response_model=webhook_schemas.EndpointWithSecret,
    responses=schemas.error_responses(400, 404, 422),
)
def create(
    body: webhook_schemas.EndpointCreate, services: ServicesDep, caller: CallerDep, said: idempotency.SaidDep
) -> Response:
    """Sent again with the same Idempotency-Key, it answers with the first endpoint, as it is now."""
    webhook_targets.check(services, body.url, "url")

    def execute(session: Session) -> _Made:
        row = webhooks.create(session, caller.owner, name=body.name, url=body.url, event_types=list(body.event_types))
        return _Made(endpoint=row.id)

    answer = idempotency.create(services.database, said(f"/v1/webhook_endpoints {body.model_dump_json()}"), execute)
    id = _Made.model_validate_json(answer.body).endpoint
    with services.database.read() as session:
        shown = _with_secret(_found(webhooks.get(session, caller.owner, id), id))
    return idempotency.response(replace(answer, body=shown.model_dump_json().encode()))


@router.get("/webhook_endpoints", responses=schemas.error_responses(400))
def list_endpoints(
    services: ServicesDep,
    caller: CallerDep,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> webhook_schemas.EndpointList:
    """Newest first."""
    with services.database.read() as session:
        cursor = webhooks.get(session, caller.owner, after) if after is not None else None
        if after is not None and cursor is None:
            raise errors.BadRequest(
                "'after' is not the id of a webhook endpoint.", param="after", code="invalid_cursor"
            )
        rows = webhooks.page(session, caller.owner, limit=limit + 1, after=cursor)
    page = rows[:limit]
    return webhook_schemas.EndpointList(
        data=[_shown(row) for row in page],
        first_id=page[0].id if page else None,
        last_id=page[-1].id if page else None,
        has_more=len(rows) > limit,
    )


@router.get("/webhook_endpoints/{endpoint_id}", responses=schemas.error_responses(404))
def retrieve(endpoint_id: str, services: ServicesDep, caller: CallerDep) -> webhook_schemas.Endpoint:
    with services.database.read() as session:
        return _shown(_found(webhooks.get(session, caller.owner, endpoint_id), endpoint_id))


@router.post("/webhook_endpoints/{endpoint_id}", responses=schemas.error_responses(400, 404))
def change(
    endpoint_id: str, body: webhook_schemas.EndpointChange, services: ServicesDep, caller: CallerDep
) -> webhook_schemas.Endpoint:
    """Also lets an endpoint that was disabled by its 410 work again."""
    changes = body.model_dump(exclude_none=True)
    if body.url is not None:
        webhook_targets.check(services, body.url, "url")
    row = services.database.write(lambda session: webhooks.change(session, caller.owner, endpoint_id, changes))
    return _shown(_found(row, endpoint_id))


@router.delete("/webhook_endpoints/{endpoint_id}", responses=schemas.error_responses(404))
def delete(endpoint_id: str, services: ServicesDep, caller: CallerDep) -> webhook_schemas.EndpointDeleted:
    """With its deliveries."""
    if not services.database.write(lambda session: webhooks.remove(session, caller.owner, endpoint_id)):
        _found(None, endpoint_id)
    return webhook_schemas.EndpointDeleted(id=endpoint_id)


@router.post("/webhook_endpoints/{endpoint_id}/rotate_secret", responses=schemas.error_responses(400, 404))
def rotate_secret(
    endpoint_id: str,
    services: ServicesDep,
    caller: CallerDep,
    body: webhook_schemas.SecretRotation | None = None,
) -> webhook_schemas.EndpointWithSecret:
    keep = body is not None and body.keep_old_secret_active_for_24_hours
    try:
        row = services.database.write(
            lambda session: webhooks.rotate(session, caller.owner, endpoint_id, keep_old=keep)
        )
    except webhooks.SecretOfOwner as error:
        raise errors.BadRequest(str(error), code="secret_of_owner") from None
    return _with_secret(_found(row, endpoint_id))


@router.post("/webhook_endpoints/{endpoint_id}/test", responses=schemas.error_responses(400, 404))
def test(
    endpoint_id: str, body: webhook_schemas.EndpointTest, services: ServicesDep, caller: CallerDep
) -> webhook_schemas.EndpointTested:
    """Send a sample now, and say what came back."""
    now = services.database.now()

    def signed(session: Session) -> tuple[list[str], str]:
        row = _found(webhooks.get(session, caller.owner, endpoint_id), endpoint_id)
        return webhooks.secrets(session, row, now), row.url

    secrets, url = services.database.write(signed)
    sample = sender.event_body(ids.new_event(), body.event_type, now, ids.new_batch())
    message = Message(id=ids.new_delivery(), url=url, secrets=secrets, timestamp=int(now), body=sample)
    answer = asyncio.run(sender.send(message, private=services.webhook_private))
    if answer.status is None:
        raise errors.BadRequest(f"The endpoint did not answer: {answer.error}.", code="webhook_test_failed")
    return webhook_schemas.EndpointTested(
        webhook_endpoint_id=endpoint_id, event_type=body.event_type, status_code=answer.status
    )


@router.get("/webhook_endpoints/{endpoint_id}/deliveries", responses=schemas.error_responses(404))
def deliveries(
    endpoint_id: str,
    services: ServicesDep,
    caller: CallerDep,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    batch: str | None = None,
) -> webhook_schemas.DeliveryList:
    """The newest, with every try; of one batch if it is named."""
    with services.database.read() as session:
        _found(webhooks.get(session, caller.owner, endpoint_id), endpoint_id)
        rows = webhooks.deliveries(session, caller.owner, endpoint_id, limit=limit, batch=batch)
        return webhook_schemas.DeliveryList(data=[_delivery(session, row) for row in rows])


@router.post("/webhook_deliveries/{delivery_id}/replay", responses=schemas.error_responses(400, 404))
def replay(delivery_id: str, services: ServicesDep, caller: CallerDep) -> webhook_schemas.Delivery:
    """Send it again, with the same id."""

    def again(session: Session) -> webhook_schemas.Delivery | None:
        if not webhooks.replay(session, caller.owner, delivery_id):
            return None
        sent = webhooks.delivery(session, caller.owner, delivery_id)
        return None if sent is None else _delivery(session, sent)

    try:
        found = services.database.write(again)
    except webhooks.Disabled as error:
        raise errors.BadRequest(str(error), code="endpoint_disabled") from None
    if found is None:
        raise errors.NotFound(f"No webhook delivery found with id '{faults.shown(delivery_id)}'.")
    return found


def _secret(row: tables.WebhookSecret) -> webhook_schemas.Secret:
    return webhook_schemas.Secret(
        signing_secret=row.secret, created_at=int(row.created_at), updated_at=int(row.updated_at)
    )


def _found(row: tables.WebhookEndpoint | None, id: str) -> tables.WebhookEndpoint:
    if row is None:
        raise errors.NotFound(f"No webhook endpoint found with id '{faults.shown(id)}'.")
    return row


def _shown(row: tables.WebhookEndpoint) -> webhook_schemas.Endpoint:
    return webhook_schemas.Endpoint.model_validate(_fields(row))


def _with_secret(row: tables.WebhookEndpoint) -> webhook_schemas.EndpointWithSecret:
    return webhook_schemas.EndpointWithSecret.model_validate({**_fields(row), "signing_secret": row.secret})


def _fields(row: tables.WebhookEndpoint) -> dict[str, object]:
    return {
        "id": row.id,
        "name": row.name,
        "url": row.url,
        "event_types": row.event_types,
        "created_at": int(row.created_at),
        "updated_at": int(row.updated_at),
        "signing_secret_hint": signature.hint(row.secret),
        "disabled_at": _seconds(row.disabled_at),
        "failing_since": _seconds(row.failing_since),
    }


def _delivery(session: Session, sent: webhooks.Sent) -> webhook_schemas.Delivery:
    row = sent.delivery
    tries = webhooks.attempts(session, row.id)
    return webhook_schemas.Delivery(
        id=row.id,
        event=row.event,
        type=sent.event.type,
        batch=sent.batch,
        state=row.state,
        due_at=_seconds(row.due_at),
        delivered_at=_seconds(row.delivered_at),
        attempts=[
            webhook_schemas.Attempt(
                number=attempt.number,
                at=int(attempt.at),
                seconds=attempt.seconds,
                status_code=attempt.status,
                error=attempt.error,
                answer=attempt.answer.decode("utf-8", "replace"),
            )
            for attempt in tries
        ],
    )


def _seconds(moment: float | None) -> int | None:
    return None if moment is None else int(moment)
