"""The tables, a family a file.

Times are unix seconds by the database's clock, money is an integer of pico-USD (1e-12 USD), None is "unknown".
"""

from typing import cast

from sqlalchemy import Table
from sqlmodel import SQLModel

from worker.tables.api_keys import ApiKey, Spend
from worker.tables.batches import Batch, Tally
from worker.tables.events import Event
from worker.tables.files import File
from worker.tables.held import RequestBody
from worker.tables.idempotency import Idempotency
from worker.tables.jobs import Job, Slice
from worker.tables.keys import LINE_BITS, job_batch, job_id, job_line
from worker.tables.limits import Eta, Quota, ScopeReport
from worker.tables.operations import Leadership, Process, Scope
from worker.tables.results import Attempt, LineError, Result
from worker.tables.secrets import Secret
from worker.tables.usage import UsageHistory
from worker.tables.webhooks import Delivery, DeliveryAttempt, WebhookEndpoint, WebhookSecret

__all__ = [
    "API_KEY",
    "ATTEMPT",
    "BATCH",
    "DELIVERY",
    "DELIVERY_ATTEMPT",
    "ENDPOINT",
    "ETA",
    "EVENT",
    "FILE",
    "IDEMPOTENCY",
    "JOB",
    "LEADERSHIP",
    "LINE_BITS",
    "LINE_ERROR",
    "PROCESS",
    "QUOTA",
    "REQUEST_BODY",
    "RESULT",
    "SCOPE",
    "SCOPE_REPORT",
    "SECRET",
    "SLICE",
    "SPEND",
    "TALLY",
    "USAGE_HISTORY",
    "WEBHOOK_SECRET",
    "ApiKey",
    "Attempt",
    "Batch",
    "Delivery",
    "DeliveryAttempt",
    "Eta",
    "Event",
    "File",
    "Idempotency",
    "Job",
    "Leadership",
    "LineError",
    "Process",
    "Quota",
    "RequestBody",
    "Result",
    "Scope",
    "ScopeReport",
    "Secret",
    "Slice",
    "Spend",
    "Tally",
    "UsageHistory",
    "WebhookEndpoint",
    "WebhookSecret",
    "job_batch",
    "job_id",
    "job_line",
]


def _core(model: type[SQLModel]) -> Table:
    return cast(Table, model.__table__)  # type: ignore[attr-defined]


BATCH, TALLY, SLICE, JOB = _core(Batch), _core(Tally), _core(Slice), _core(Job)
ATTEMPT, RESULT, FILE, SCOPE = _core(Attempt), _core(Result), _core(File), _core(Scope)
PROCESS, LEADERSHIP, REQUEST_BODY = _core(Process), _core(Leadership), _core(RequestBody)
EVENT, ENDPOINT, DELIVERY, DELIVERY_ATTEMPT = (
    _core(Event),
    _core(WebhookEndpoint),
    _core(Delivery),
    _core(DeliveryAttempt),
)
WEBHOOK_SECRET = _core(WebhookSecret)
IDEMPOTENCY, SECRET = _core(Idempotency), _core(Secret)
QUOTA, SCOPE_REPORT, ETA = _core(Quota), _core(ScopeReport), _core(Eta)
API_KEY, SPEND = _core(ApiKey), _core(Spend)
LINE_ERROR, USAGE_HISTORY = _core(LineError), _core(UsageHistory)
"""The same tables for statements of SQLAlchemy Core, which the hot paths use."""
