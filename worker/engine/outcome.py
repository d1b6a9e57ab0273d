"""From an answer or an error to the row that is stored: pure, so that every case can be read and tested."""

from dataclasses import dataclass, replace

from providers.deployment import Deployment
from providers.errors import ProviderError
from providers.result import ProviderResult
from worker import result_line
from worker.catalog import Catalog
from worker.routing import trail as trails
from worker.states import Outcome
from worker.store.calls import Ended
from worker.store.slices import Claim, ClaimedJob


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One call of one job, as it was begun. ``attempt`` names it; ``reserved`` is its estimated cost in pico-USD."""

    claim: Claim
    job: ClaimedJob
    deployment: Deployment
    attempt: int
    reserved: int


def succeeded(call: Call, result: ProviderResult, catalog: Catalog, seconds: float) -> Ended:
    cost = result.cost or catalog.cost(call.deployment, result.usage)
    return _ended(
        call,
        seconds,
        outcome=Outcome.SUCCEEDED,
        status_code=result.status_code,
        request_id=_clean(result.request_id),
        model=_clean(result.model),
        fingerprint=_clean(result.fingerprint),
        ending=result.ending,
        usage=result.usage,
        cost=None if cost is None else cost.picousd,
        cost_source=None if cost is None else cost.source,
        kind="output",
        line=result_line.succeeded(
            call.claim.kind,
            call.job.id,
            call.job.custom_id,
            result.status_code,
            _clean(result.request_id),
            result.body,
        ),
    )


def handed_on(ended: Ended, trail: str | None) -> Ended:
    """An answer that does not count because another model is to be asked; it was paid for all the same."""
    if trail is None:
        return ended
    return replace(ended, outcome=Outcome.FELL_BACK, kind=None, line=b"", trail=trail)


def failed(
    call: Call, error: ProviderError, outcome: Outcome, catalog: Catalog, seconds: float, *, trail: str | None = None
) -> Ended:
    """A failed call; it gives the job its error row only when ``outcome`` is FAILED."""
    cost = catalog.cost(call.deployment, error.usage)
    amount = cost.picousd if cost is not None else (None if error.may_be_billed or error.usage is not None else 0)
    final = outcome is Outcome.FAILED
    return _ended(
        call,
        seconds,
        outcome=outcome,
        status_code=error.status_code,
        error_code=_clean(error.code),
        request_id=_clean(error.request_id),
        usage=error.usage,
        cost=amount,
        cost_source=None if cost is None else cost.source,
        kind="error" if final else None,
        line=_failed_line(call, error) if final else b"",
        trail=trail,
    )


def unreadable(call: Call, message: str) -> Ended:
    """The request could not be read from the input file."""
    line = result_line.refused(call.claim.kind, call.job.id, call.job.custom_id, "input_file_unreadable", message, None)
    return _ended(
        call, 0.0, outcome=Outcome.FAILED, error_code="input_file_unreadable", kind="error", line=line, cost=0
    )


def broken(call: Call, defect: str, seconds: float) -> Ended:
    """Our own code failed during the call: nobody knows whether it was billed."""
    message = f"Gristmill failed while it handled this request ({defect})."
    line = result_line.broken(call.claim.kind, call.job.id, call.job.custom_id, "internal_error", message)
    return _ended(
        call, seconds, outcome=Outcome.FAILED, error_code="internal_error", kind="error", line=line, cost=None
    )


def abandoned(call: Call, seconds: float) -> Ended:
    """We ended the call ourselves: nobody knows whether it was billed."""
    return _ended(call, seconds, outcome=Outcome.ABANDONED, error_code="abandoned", cost=None)


def _failed_line(call: Call, error: ProviderError) -> bytes:
    return result_line.failed(
        call.claim.kind,
        call.job.id,
        call.job.custom_id,
        error.public_status(),
        _clean(error.request_id),
        code=error.code,
        message=error.message,
        body=error.public_body(),
    )


def _ended(call: Call, seconds: float, *, outcome: Outcome, cost: int | None, **facts: object) -> Ended:
    return Ended(
        job=call.job.id,
        attempt=call.attempt,
        slice=call.claim.slice,
        epoch=call.claim.epoch,
        batch=call.claim.batch,
        batch_kind=call.claim.kind,
        route=call.claim.route,
        owner=call.claim.owner,
        generation=call.job.generation,
        deployment=call.deployment.name,
        seconds=seconds,
        outcome=outcome,
        reserved=call.reserved,
        cost=cost,
        fallback=trails.reason(call.claim.trail),
        **facts,  # type: ignore[arg-type]
    )


def _clean(text: str | None) -> str | None:
    """What a column of text takes: no NUL, no lone surrogates, not longer than it is of use."""
    if text is None:
        return None
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")[:200]
