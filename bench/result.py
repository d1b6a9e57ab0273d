"""What a case came to: the figures of every client, and what was aimed at. Kept as JSON, a case replaces itself."""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.case import Aim, Case

MILL = "gristmill"
"""The client that aims are about."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """``figures`` by client; whoever did not end, in one run or in all, has a reason in ``failures``."""

    case: str
    title: str
    lines: int
    runs: int
    server: str
    measured_at: str
    machine: str
    figures: Mapping[str, Mapping[str, float | None]]
    failures: Mapping[str, str]
    verdicts: Mapping[str, str]
    """By aim: ``met``, ``missed`` or ``not judged``, with the value."""

    @property
    def is_met(self) -> bool:
        return MILL not in self.failures and all(verdict.startswith("met") for verdict in self.verdicts.values())


def verdicts(case: Case, figures: Mapping[str, float | None]) -> dict[str, str]:
    return {str(aim): _verdict(aim, figures.get(aim.figure)) for aim in case.aims}


def _verdict(aim: Aim, value: float | None) -> str:
    if value is None:
        return "not judged"
    return f"{'met' if aim.is_met(value) else 'missed'}: {number(value)}"


def number(value: float | None) -> str:
    """Three significant digits, or the whole of what is larger; a hyphen for nothing."""
    if value is None:
        return "-"
    if not math.isfinite(value):
        return "never"
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


class Book:
    """``benchmarks.json`` in a folder: one result a case, the newest."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / "benchmarks.json"

    def read(self) -> dict[str, Result]:
        if not self._path.exists():
            return {}
        return {name: Result(**fields) for name, fields in json.loads(self._path.read_text()).items()}

    def write(self, *results: Result) -> dict[str, Result]:
        """All that the book then holds."""
        held = {**self.read(), **{result.case: result for result in results}}
        text = json.dumps({name: _rounded(dataclasses.asdict(result)) for name, result in held.items()}, indent=1)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(text + "\n")
        return held


def _rounded(value: Any) -> Any:
    """Infinities are no JSON."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, float):
        return round(value, 5) if math.isfinite(value) else None
    return value
