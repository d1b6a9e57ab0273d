"""Why a file cannot be run: its faulty lines, equal faults in one."""

from api import schemas
from api.cli import columns

SHOWN = 20


def text(batch: schemas.Batch) -> str:
    lines: dict[str, list[int]] = {}
    for error in batch.errors.data if batch.errors else []:
        lines.setdefault(f"{error.message} ({error.code})", []).append(error.line or 0)
    shown = [f"  {_where(found)}{message}" for message, found in list(lines.items())[:SHOWN]]
    more = len(lines) - SHOWN
    return "\n".join([*shown, *([f"  and {columns.plural(more, 'other fault')}"] if more > 0 else [])])


def codes(batch: schemas.Batch) -> set[str]:
    return {error.code for error in (batch.errors.data if batch.errors else [])}


def _where(lines: list[int]) -> str:
    if lines == [0]:
        return ""
    more = f" and {columns.count(len(lines) - 1)} more" if len(lines) > 1 else ""
    return f"line {columns.count(lines[0])}{more}: "
