"""From rows to what clients see."""

from api import schemas
from worker import output_files, states
from worker.output_files import Kind
from worker.states import BatchStatus
from worker.store.listing import Entry
from worker.store.progress import Block, Progress
from worker.tables import Batch, LineError, Tally

PICO = 10**12


def picousd(usd: float) -> int:
    """Whole pico-USD of a sum that a client named."""
    return round(usd * PICO)


def usd(picousd: int) -> float:
    return picousd / PICO


def file(entry: Entry) -> schemas.File:
    return schemas.File(
        id=entry.id,
        bytes=entry.bytes,
        created_at=int(entry.created_at),
        expires_at=seconds(entry.expires_at),
        filename=entry.filename,
        purpose=entry.purpose,
    )


def batch(row: Batch, progress: Progress) -> schemas.Batch:
    validating = row.status == BatchStatus.VALIDATING
    return schemas.Batch(
        id=row.id,
        endpoint=row.endpoint,
        model=row.model,
        errors=line_errors(progress.errors) if progress.errors else None,
        input_file_id=row.input_file_id,
        completion_window=row.completion_window,
        status=row.status,
        output_file_id=_finished_file(row, "output"),
        error_file_id=_finished_file(row, "error"),
        created_at=int(row.created_at),
        in_progress_at=seconds(row.in_progress_at),
        expires_at=seconds(row.expires_at),
        finalizing_at=seconds(row.finalizing_at),
        completed_at=seconds(row.completed_at),
        failed_at=seconds(row.failed_at),
        expired_at=seconds(row.expired_at),
        cancelling_at=seconds(row.cancelling_at),
        cancelled_at=seconds(row.cancelled_at),
        request_counts=schemas.RequestCounts(
            total=0 if validating else row.total,
            completed=0 if validating else row.completed,
            failed=0 if validating else row.failed,
        ),
        usage=None if row.in_progress_at is None else usage(row),
        metadata=row.metadata_,
        gristmill=_progress(row, progress),
    )


def line_errors(rows: list[LineError]) -> schemas.LineErrors:
    return schemas.LineErrors(
        data=[
            schemas.LineError(code=row.code, line=row.line or None, message=row.message, param=row.param)
            for row in rows
        ]
    )


def _finished_file(row: Batch, kind: Kind) -> str | None:
    """Clients of OpenAI take a file id for the sign that everything is in the file."""
    size = row.output_bytes if kind == "output" else row.error_bytes
    return output_files.file_id(row, kind) if size and row.status in states.AT_REST else None


def usage(row: Batch) -> schemas.Usage:
    return schemas.Usage(
        input_tokens=row.input_tokens,
        input_tokens_details=schemas.InputTokensDetails(cached_tokens=row.cached_tokens),
        output_tokens=row.output_tokens,
        output_tokens_details=schemas.OutputTokensDetails(reasoning_tokens=row.reasoning_tokens),
        total_tokens=row.input_tokens + row.output_tokens,
    )


def _progress(row: Batch, progress: Progress) -> schemas.BatchProgress:
    return schemas.BatchProgress(
        open=row.open,
        in_flight=progress.in_flight,
        attempts=row.attempts,
        retries=row.retries,
        rate_limited=row.rate_limited,
        repeats_at_most=row.repeats_at_most,
        cost_usd=cost(row.cost, row.unknown_cost),
        unknown_cost=row.unknown_cost,
        max_cost=None if row.max_cost is None else usd(row.max_cost),
        allow_unknown_cost=row.allow_unknown_cost,
        allow_fallback=row.allow_fallback,
        line_limit=row.line_limit,
        identity=row.identity,
        priority=row.priority,
        invalid=row.invalid,
        paused=row.paused_at is not None,
        blocked_by=[_block(block) for block in progress.blocks],
        eta_at=seconds(progress.done_at),
        eta_seconds=None if progress.seconds_left is None else round(progress.seconds_left),
        models=[_model(tally) for tally in progress.tallies],
        generation=row.generation,
        output_file_id=output_files.file_id(row, "output"),
        error_file_id=output_files.file_id(row, "error"),
        webhook=_webhook(row, progress),
    )


def _webhook(row: Batch, progress: Progress) -> schemas.BatchWebhook | None:
    if row.webhook_endpoint is None or progress.webhook_url is None:
        return None
    return schemas.BatchWebhook(
        endpoint_id=row.webhook_endpoint, url=progress.webhook_url, events=row.webhook_events or []
    )


def _block(block: Block) -> schemas.Block:
    return schemas.Block(
        scope=block.scope, model=block.model, reason=block.reason, since=int(block.since), detail=block.detail
    )


def _model(tally: Tally) -> schemas.ModelProgress:
    return schemas.ModelProgress(
        model=tally.route,
        lines=tally.lines,
        completed=tally.completed,
        failed=tally.failed,
        estimated_input_tokens=tally.estimated_input_tokens,
        estimated_output_tokens=tally.estimated_output_tokens,
        estimated_cost_usd=_estimate(tally),
        input_tokens=tally.input_tokens,
        cached_tokens=tally.cached_tokens,
        output_tokens=tally.output_tokens,
        reasoning_tokens=tally.reasoning_tokens,
        cost_usd=cost(tally.cost, tally.unknown_cost),
        unknown_cost=tally.unknown_cost,
        truncated=tally.truncated,
        filtered=tally.filtered,
        refused=tally.refused,
        empty=tally.empty,
        retries=tally.retries,
    )


def cost(known: int, unknown: int) -> float | None:
    """The known part; None if nothing but unknown prices was paid."""
    return None if unknown and not known else usd(known)


def _estimate(tally: Tally) -> float | None:
    if tally.input_price is None or tally.output_price is None:
        return None
    return usd(tally.estimated_input_tokens * tally.input_price + tally.estimated_output_tokens * tally.output_price)


def seconds(moment: float | None) -> int | None:
    return None if moment is None else int(moment)
