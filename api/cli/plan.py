"""What a run is going to send and roughly cost, said before the first call."""

from dataclasses import dataclass

from api import schemas
from api.cli import columns


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The lines of a batch that are going to be sent now, and what they will roughly cost."""

    batch: schemas.Batch
    lines: int

    @classmethod
    def of(cls, batch: schemas.Batch, *, limit: int | None, again: bool) -> "Plan":
        """The open lines up to ``limit``, or all that failed before."""
        counts = batch.request_counts
        wanted = counts.total if limit is None else min(limit, counts.total)
        return cls(batch=batch, lines=counts.failed if again else max(wanted - counts.completed - counts.failed, 0))

    @property
    def cost_usd(self) -> float:
        """Without the lines of unknown price."""
        total = sum(model.estimated_cost_usd or 0.0 for model in self.batch.gristmill.models)
        return total * self.lines / max(self.batch.request_counts.total, 1)

    @property
    def unknown(self) -> list[str]:
        """Models without a known price."""
        return [model.model for model in self.batch.gristmill.models if model.estimated_cost_usd is None]

    def text(self) -> str:
        head = ("model", "lines", "input tokens", "output tokens", "cost")
        rows = [
            (
                model.model,
                columns.count(model.lines),
                f"~{columns.count(model.estimated_input_tokens)}",
                f"~{columns.count(model.estimated_output_tokens)}",
                _about(model.estimated_cost_usd),
            )
            for model in self.batch.gristmill.models
        ]
        return f"{columns.table(head, rows)}\n{self._summary()}"

    def _summary(self) -> str:
        total = self.batch.request_counts.total
        now = f"{columns.plural(self.lines, 'line')} to run now"
        of = "" if self.lines == total else f" of {columns.count(total)}"
        sums = (
            [] if len(self.unknown) == len(self.batch.gristmill.models) else [f"about {columns.money(self.cost_usd)}"]
        )
        if self.unknown:
            sums.append(f"an unknown sum for {', '.join(self.unknown)}")
        faulty = self.batch.gristmill.invalid
        return f"{now}{of}, for {' and '.join(sums)}" + (
            f"; {columns.plural(faulty, 'faulty line')} left out" if faulty else ""
        )


def _about(usd: float | None) -> str:
    return "unknown" if usd is None else f"~{columns.money(usd)}"
