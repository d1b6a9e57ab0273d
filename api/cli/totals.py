"""What a run came to."""

from api import schemas
from api.cli import columns

HEAD = ("model", "requests", "failed", "input", "cached", "output", "reasoning", "cost", "unknown cost")


def text(batch: schemas.Batch, *, wall_seconds: float | None) -> str:
    extension = batch.gristmill
    rows = [_row(model) for model in extension.models]
    if len(rows) > 1:
        rows.append(_sum(batch))
    lines = [columns.table(HEAD, rows), _endings(extension)]
    took = [f"wall time {columns.duration(wall_seconds)}"] if wall_seconds is not None else []
    lines.append(
        ", ".join(
            [
                *took,
                columns.plural(extension.retries, "retry").replace("retrys", "retries"),
                f"{columns.count(extension.rate_limited)} rate-limited",
                f"repeated calls: {_repeats(extension.repeats_at_most)}",
            ]
        )
    )
    return "\n".join(lines)


def exit_status(batch: schemas.Batch, *, limit: int | None = None) -> int:
    """0 only if every line that was asked for succeeded."""
    wanted = batch.request_counts.total if limit is None else min(limit, batch.request_counts.total)
    failed = batch.request_counts.failed > 0 or batch.request_counts.completed < wanted
    return 1 if failed or batch.status == "failed" else 0


def _row(model: schemas.ModelProgress) -> tuple[str, ...]:
    return (
        model.model,
        columns.count(model.completed + model.failed),
        columns.count(model.failed),
        columns.count(model.input_tokens),
        columns.count(model.cached_tokens),
        columns.count(model.output_tokens),
        columns.count(model.reasoning_tokens),
        columns.money(model.cost_usd),
        columns.count(model.unknown_cost),
    )


def _sum(batch: schemas.Batch) -> tuple[str, ...]:
    models, counts = batch.gristmill.models, batch.request_counts
    tokens = (
        sum(getattr(model, name) for model in models)
        for name in ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")
    )
    return (
        "total",
        columns.count(counts.completed + counts.failed),
        columns.count(counts.failed),
        *(columns.count(number) for number in tokens),
        columns.money(batch.gristmill.cost_usd),
        columns.count(batch.gristmill.unknown_cost),
    )


def _endings(extension: schemas.BatchProgress) -> str:
    """Answers that came, but not as a full answer."""
    names = ("truncated", "filtered", "refused", "empty")
    counts = {name: sum(getattr(model, name) for model in extension.models) for name in names}
    return "answers: " + ", ".join(f"{columns.count(number)} {name}" for name, number in counts.items())


def _repeats(at_most: int) -> str:
    return f"at most {columns.count(at_most)}" if at_most else "0"
