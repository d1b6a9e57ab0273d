"""What is common to Gristmill and those that it is measured against."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol


class ClientError(Exception):
    """A client did not start, or did not end; the message says what was seen of it."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """What the work has cost, start-up apart. ``peaks``: resident bytes by process."""

    seconds: float
    cpu_seconds: float
    peaks: Mapping[str, int]
    startup_cpu: float
    marked_empty: int | None = None


class Client(Protocol):
    """Started and idle once it is entered."""

    def work(self, lines: Path, answers: Path, *, patience: float) -> Done:
        """Raises ClientError."""
