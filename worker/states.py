"""States of batches, slices and jobs, and the moves that are allowed between them, as data."""

from enum import IntEnum, StrEnum


class BatchStatus(StrEnum):
    """OpenAI's own words (openai.types.Batch.status)."""

    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


class Kind(StrEnum):
    """Through which surface a batch came. All kinds run on the same engine; lists show one kind."""

    BATCH = "batch"
    MESSAGES = "messages"
    HELD = "held"


class Stop(StrEnum):
    """Why a batch ends before its lines do."""

    CANCEL = "cancel"
    EXPIRE = "expire"


class SliceState(StrEnum):
    """``ready`` may be published, ``published`` has a message in the broker, ``leased`` belongs to a worker."""

    READY = "ready"
    PUBLISHED = "published"
    LEASED = "leased"
    DONE = "done"


class JobState(IntEnum):
    """Every state but ``PENDING`` has exactly one current result row."""

    PENDING = 0
    SUCCEEDED = 1
    FAILED = 2
    EXPIRED = 3
    CANCELLED = 4


class Outcome(StrEnum):
    """What became of one attempt."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    RETRY = "retry"
    RATE_LIMITED = "rate_limited"
    PAUSED = "paused"
    ABANDONED = "abandoned"
    FELL_BACK = "fell_back"
    """It failed, and its line goes on with another model."""


AT_REST = frozenset({BatchStatus.FAILED, BatchStatus.COMPLETED, BatchStatus.EXPIRED, BatchStatus.CANCELLED})

BATCH_MOVES: dict[BatchStatus, frozenset[BatchStatus]] = {
    BatchStatus.VALIDATING: frozenset({BatchStatus.FAILED, BatchStatus.IN_PROGRESS, BatchStatus.CANCELLING}),
    BatchStatus.IN_PROGRESS: frozenset({BatchStatus.FINALIZING, BatchStatus.CANCELLING, BatchStatus.EXPIRED}),
    BatchStatus.FINALIZING: frozenset({BatchStatus.COMPLETED, BatchStatus.CANCELLING}),
    BatchStatus.CANCELLING: frozenset({BatchStatus.CANCELLED}),
    BatchStatus.COMPLETED: frozenset({BatchStatus.IN_PROGRESS}),
    BatchStatus.EXPIRED: frozenset({BatchStatus.IN_PROGRESS}),
    BatchStatus.CANCELLED: frozenset({BatchStatus.IN_PROGRESS}),
    BatchStatus.FAILED: frozenset(),
}
"""A batch at rest returns to ``in_progress`` only as a new generation."""

JOB_MOVES: dict[JobState, frozenset[JobState]] = {
    JobState.PENDING: frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.EXPIRED, JobState.CANCELLED}),
    JobState.FAILED: frozenset({JobState.SUCCEEDED, JobState.PENDING}),
    JobState.EXPIRED: frozenset({JobState.SUCCEEDED, JobState.PENDING}),
    JobState.CANCELLED: frozenset({JobState.SUCCEEDED, JobState.PENDING}),
    JobState.SUCCEEDED: frozenset(),
}
"""A success is never replaced; an error gives way to a success that was paid for while its batch still runs."""
