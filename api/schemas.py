"""What goes in and out over HTTP. OpenAI's objects, plus ``gristmill`` for what it has no words for."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from api import webhook_schemas
from worker import windows

SMALLINT, INTEGER = 1 << 15, (1 << 31) - 1
LARGEST_COST = 1_000_000.0
"""USD."""

Endpoint = Literal["/v1/chat/completions", "/v1/embeddings", "/v1/completions"]
Metadata = Annotated[
    dict[
        Annotated[str, Field(max_length=64, pattern=r"^[^\x00]*$")],
        Annotated[str, Field(max_length=512, pattern=r"^[^\x00]*$")],
    ],
    Field(max_length=16),
]
MaxCost = Annotated[float, Field(ge=0, le=LARGEST_COST, allow_inf_nan=False)]
LineLimit = Annotated[int, Field(ge=1, le=INTEGER)]
Priority = Annotated[int, Field(ge=-SMALLINT, lt=SMALLINT)]
Identity = Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,128}$")]


def _meaningful(window: str) -> str:
    windows.seconds(window)
    return window


Window = Annotated[str, Field(max_length=32), AfterValidator(_meaningful)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ExpiresAfter(_Request):
    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3_600, le=2_592_000)]


class BatchOptions(_Request):
    """``gristmill`` in a create: what the run may cost, and when and how it starts."""

    hold: bool = False
    max_cost: MaxCost | None = None
    allow_unknown_cost: bool = False
    allow_fallback: bool = False
    line_limit: LineLimit | None = None
    invalid_lines: Literal["fail", "report"] = "fail"
    identity: Identity | None = None
    priority: Priority = 0
    webhook_url: webhook_schemas.Url | None = None
    webhook_events: webhook_schemas.EventTypes | None = None

    @model_validator(mode="after")
    def _events_have_a_receiver(self) -> Self:
        if self.webhook_events is not None and self.webhook_url is None:
            raise ValueError("webhook_events needs a webhook_url")
        return self


class BatchCreate(_Request):
    input_file_id: str
    endpoint: Endpoint
    completion_window: Window
    metadata: Metadata | None = None
    output_expires_after: ExpiresAfter | None = None
    gristmill: BatchOptions | None = None


class BatchCancel(_Request):
    """Nothing."""


class BatchLimits(_Request):
    """Limits that are not named stay."""

    max_cost: MaxCost | None = None
    allow_unknown_cost: bool = False
    allow_fallback: bool = False
    line_limit: LineLimit | None = None


class BatchResume(BatchLimits):
    retry_failed: bool = False


class BatchExtend(_Request):
    completion_window: Window


class BatchChanges(_Request):
    priority: Priority


class BatchChange(_Request):
    """What may change while a batch is there."""

    gristmill: BatchChanges


REQUEST_FIELDS = sorted(
    {
        name
        for model in (BatchChanges, BatchCreate, BatchOptions, BatchResume, ExpiresAfter)
        for name in model.model_fields
    }
)


class ErrorBody(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class Error(BaseModel):
    """Every answer that is not 2xx."""

    error: ErrorBody


class File(BaseModel):
    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"
    status_details: None = None


class UsageSum(BaseModel):
    """``key`` is the day, model, provider or batch; null is unknown."""

    key: str
    attempts: int
    input_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    cost_usd: float | None
    unknown_cost: int


class UsageList(BaseModel):
    object: Literal["list"] = "list"
    by: str
    data: list[UsageSum]


class FileDeleted(BaseModel):
    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class RequestCounts(BaseModel):
    total: int
    completed: int
    failed: int


class InputTokensDetails(BaseModel):
    cached_tokens: int


class OutputTokensDetails(BaseModel):
    reasoning_tokens: int


class Usage(BaseModel):
    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class LineError(BaseModel):
    code: str
    line: int | None
    message: str
    param: str | None


class LineErrors(BaseModel):
    object: Literal["list"] = "list"
    data: list[LineError]


class Block(BaseModel):
    """Why lines wait: a scope (provider, account, model) that rests, a model that fails alike, or a cap."""

    scope: str | None = None
    model: str | None = None
    reason: str
    since: int
    detail: str | None


class ModelProgress(BaseModel):
    """One asked-for model. Money is USD; None is unknown."""

    model: str
    lines: int
    completed: int
    failed: int
    estimated_input_tokens: int
    estimated_output_tokens: int
    estimated_cost_usd: float | None
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost_usd: float | None
    unknown_cost: int
    truncated: int
    filtered: int
    refused: int
    empty: int
    retries: int


class BatchWebhook(BaseModel):
    """Who else is told of this batch: its deliveries are at /v1/webhook_endpoints/{endpoint_id}/deliveries."""

    endpoint_id: str
    url: str
    events: list[str]


class BatchProgress(BaseModel):
    """``gristmill`` in a batch. ``cost_usd`` is the known part; ``unknown_cost`` counts calls of unknown cost."""

    open: int
    in_flight: int
    attempts: int
    retries: int
    rate_limited: int
    repeats_at_most: int
    cost_usd: float | None
    unknown_cost: int
    max_cost: float | None
    allow_unknown_cost: bool
    allow_fallback: bool
    line_limit: int | None
    identity: str | None
    priority: int
    invalid: int
    paused: bool
    blocked_by: list[Block]
    eta_at: int | None = None
    """When it will be done if all goes on as it does; null while that is not known, or something waits."""
    eta_seconds: int | None = None
    models: list[ModelProgress]
    generation: int
    output_file_id: str
    error_file_id: str
    webhook: BatchWebhook | None = None


class Batch(BaseModel):
    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    model: str | None
    errors: LineErrors | None
    input_file_id: str
    completion_window: str
    status: str
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int | None
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    usage: Usage | None
    metadata: dict[str, str]
    gristmill: BatchProgress


class BatchDeleted(BaseModel):
    id: str
    object: Literal["batch"] = "batch"
    deleted: Literal[True] = True


class Attempt(BaseModel):
    """One provider call. ``started_at`` is by its worker's clock; None is unknown.

    ``fallback``: why it was not the model asked for that was called.
    """

    started_at: float
    seconds: float
    generation: int
    deployment: str
    fallback: Literal["general", "context_window", "content_policy"] | None = None
    outcome: str
    status_code: int | None
    error_code: str | None
    request_id: str | None
    model: str | None
    input_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    cost_usd: float | None


class Job(BaseModel):
    """One line. ``attempts`` are the newest of ``attempts_total``, of all generations, the latest last."""

    object: Literal["batch.job"] = "batch.job"
    line: int
    custom_id: str | None
    url: str
    model: str | None
    status: str
    generation: int
    error_code: str | None
    attempts_total: int
    attempts: list[Attempt]


class JobList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Job]
    last_line: int | None
    has_more: bool


class Model(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str


class _List(BaseModel):
    object: Literal["list"] = "list"
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileList(_List):
    data: list[File]


class BatchList(_List):
    data: list[Batch]


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Model]


class Health(BaseModel):
    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    status: Literal["ready", "not_ready"]
    database: bool
    broker: bool
    workers: int
    missing: list[str]
    """What is not there yet, in words."""


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For the OpenAPI document."""
    return {status: {"model": Error} for status in statuses}
