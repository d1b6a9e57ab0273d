"""How long things are kept. Nothing that a user made goes unless the configuration says so."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """Seconds after which things are deleted; None: never. Batches count from their end, files from their upload."""

    batches: float | None = None
    held: float | None = None
    input_files: float | None = None
