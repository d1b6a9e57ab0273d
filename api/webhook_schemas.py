"""Webhook endpoints over HTTP: OpenAI's objects, and what became of each delivery."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from worker.webhooks.event_types import EventType

EventTypes = Annotated[list[EventType], Field(min_length=1, max_length=32)]
Name = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00]*$")]
Url = Annotated[str, Field(max_length=2_048)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class EndpointCreate(_Request):
    name: Name
    url: Url
    event_types: EventTypes


class EndpointChange(_Request):
    """What is not named stays."""

    name: Name | None = None
    url: Url | None = None
    event_types: EventTypes | None = None


class SecretRotation(_Request):
    keep_old_secret_active_for_24_hours: bool = False


class EndpointTest(_Request):
    event_type: EventType


class Endpoint(BaseModel):
    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    name: str
    url: str
    event_types: list[str]
    created_at: int
    updated_at: int
    signing_secret_hint: str
    disabled_at: int | None
    failing_since: int | None


class EndpointWithSecret(Endpoint):
    """The secret is shown at creation and rotation only."""

    signing_secret: str


class Secret(BaseModel):
    """With which the webhooks of the owner's batches (``webhook_url``) are signed."""

    object: Literal["webhook_secret"] = "webhook_secret"
    signing_secret: str
    created_at: int
    updated_at: int


class EndpointList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Endpoint]
    first_id: str | None
    last_id: str | None
    has_more: bool


class EndpointDeleted(BaseModel):
    id: str
    object: Literal["webhook_endpoint.deleted"] = "webhook_endpoint.deleted"
    deleted: Literal[True] = True


class EndpointTested(BaseModel):
    object: Literal["webhook_endpoint.test"] = "webhook_endpoint.test"
    webhook_endpoint_id: str
    event_type: str
    status_code: int
    success: Literal[True] = True


class EventTypeList(BaseModel):
    object: Literal["list"] = "list"
    data: list[str]


class Attempt(BaseModel):
    number: int
    at: int
    seconds: float
    status_code: int | None
    error: str | None
    answer: str


class Delivery(BaseModel):
    """``id`` is the ``webhook-id`` of every try."""

    id: str
    object: Literal["webhook_delivery"] = "webhook_delivery"
    event: str
    type: str
    batch: str
    state: str
    due_at: int | None
    delivered_at: int | None
    attempts: list[Attempt]


class DeliveryList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Delivery]
