"""benchmarks.svg: bars, drawn by hand."""

import dataclasses
import html
from collections.abc import Iterator, Mapping, Sequence

from bench.result import MILL, Result, number

WIDTH, LEFT, RIGHT, ROW, HEAD = 860, 150, 210, 22, 44
MINE, OTHERS, INK, FAINT = "#b5651d", "#8a9ba8", "#333333", "#777777"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    label: str
    value: float
    text: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    title: str
    bars: Sequence[Bar]

    @property
    def height(self) -> int:
        return HEAD + ROW * len(self.bars)


def draw(results: Mapping[str, Result]) -> str:
    panels = [panel for panel in _panels(results) if panel.bars]
    height = sum(panel.height for panel in panels) + 16
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    top = 0
    for panel in panels:
        parts += _drawn(panel, top)
        top += panel.height
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panels(results: Mapping[str, Result]) -> Iterator[Panel]:
    if zero := results.get("zero"):
        yield Panel(title="CPU a line, ms (less is better)", bars=_cpu(zero))
    for name, result in results.items():
        if name.startswith(("rpm_", "tpm_", "headerless_")):
            yield Panel(title=f"Quota used and lines lost: {result.title}", bars=_quota(result))


def _cpu(result: Result) -> list[Bar]:
    found = [(client, figures.get("cpu_ms")) for client, figures in result.figures.items()]
    return [
        Bar(label=client, value=value, text=number(value))
        for client, value in sorted(found, key=lambda one: one[1] or 0.0)
        if value is not None
    ]


def _quota(result: Result) -> list[Bar]:
    """A client that loses lines is quick for nothing, so its bar says how many."""
    bars = []
    for client, figures in result.figures.items():
        used, lost, refused = (figures.get(name) or 0.0 for name in ("quota_used", "lost", "refused"))
        text = (
            f"{used:.0%}"
            + (f", {number(lost)} lost" if lost else "")
            + (f", {number(refused)} 429s" if refused else "")
        )
        bars.append(Bar(label=client, value=min(1.0, used) * (1 - lost / result.lines), text=text))
    return bars


def _drawn(panel: Panel, top: int) -> Iterator[str]:
    yield f'<text x="12" y="{top + 30}" font-weight="bold" fill="{INK}">{html.escape(panel.title)}</text>'
    most = max(bar.value for bar in panel.bars) or 1.0
    for place, bar in enumerate(panel.bars):
        y = top + HEAD + ROW * place
        length = (WIDTH - LEFT - RIGHT) * bar.value / most
        fill = MINE if bar.label == MILL else OTHERS
        yield f'<text x="{LEFT - 8}" y="{y + 13}" text-anchor="end" fill="{INK}">{html.escape(bar.label)}</text>'
        yield f'<rect x="{LEFT}" y="{y + 2}" width="{length:.1f}" height="15" fill="{fill}"/>'
        yield f'<text x="{LEFT + length + 6:.1f}" y="{y + 13}" fill="{FAINT}">{html.escape(bar.text)}</text>'
