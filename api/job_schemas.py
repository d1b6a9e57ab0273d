"""What goes in and out at /v1/jobs."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.schemas import Endpoint, Metadata, Usage, Window

Text = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[^\x00]*$")]


class JobCreate(BaseModel):
    """One request, as a line of an input file says it; what a file needs and this does not may be left out."""

    model_config = ConfigDict(extra="forbid", strict=True)

    url: Endpoint
    body: dict[str, Any]
    custom_id: Text | None = None
    method: Literal["POST"] = "POST"
    metadata: Metadata | None = None
    completion_window: Window | None = None


class JobsCreate(BaseModel):
    """Up to 100 requests: all of them become jobs, or none."""

    model_config = ConfigDict(extra="forbid", strict=True)

    requests: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=100)]


class JobResponse(BaseModel):
    status_code: int
    request_id: str | None
    body: dict[str, Any]


class JobError(BaseModel):
    code: str
    message: str


class Job(BaseModel):
    """``response`` and ``error`` are as in a line of an output file; a list leaves them out. Money is USD."""

    id: str
    object: Literal["job"] = "job"
    status: Literal["queued", "in_progress", "completed", "failed", "cancelled", "expired"]
    custom_id: str | None
    url: str
    model: str
    served_model: str | None
    usage: Usage
    cost_usd: float | None
    unknown_cost: int
    attempts: int
    created_at: int
    completed_at: int | None
    expires_at: int | None
    metadata: dict[str, str]
    response: JobResponse | None = None
    error: JobError | None = None


class JobList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Job]
    first_id: str | None
    last_id: str | None
    has_more: bool
