"""Aligned text: numbers, money, durations and tables, the same on a terminal and in a log."""

from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The first column to the left, all others to the right."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def count(value: float) -> str:
    return f"{value:,.0f}"


def plural(value: int, noun: str, many: str | None = None) -> str:
    return f"{count(value)} {noun if value == 1 else many or noun + 's'}"


def megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def days(seconds: float) -> str:
    return f"{seconds / 86_400:g} days"


def money(usd: float | None) -> str:
    """Cents where there are cents, else two digits of what there is."""
    if usd is None:
        return "unknown"
    if usd == 0 or usd >= 0.1:
        return f"${usd:,.2f}"
    return f"${usd:.2g}" if usd >= 0.0001 else f"${usd:.1e}"


def cost(usd: float | None, unknown: int) -> str:
    """The known part, and whether there is more."""
    return money(usd) if not unknown or usd is None else f"{money(usd)} + unknown"


def duration(seconds: float) -> str:
    whole = int(seconds + 0.5)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
