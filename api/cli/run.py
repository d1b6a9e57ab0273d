"""``gristmill run FILE``: from a file of requests to a file of results, resumable at every moment."""

import contextlib
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from api import schemas
from api.cli import columns, faults, follow, line_faults, plan, progress, requests_file, server_link, signals, totals
from api.cli.follow import Ending
from api.cli.outputs import Outputs, default_out
from api.cli.requests_file import Remembered, RequestsFile, RunMemory
from api.cli.server_link import Link

CONFLICT = 409
PAUSE_TIMEOUT_SECONDS = 3.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What the caller asked for. Only ``invalid_lines`` changes what is sent."""

    confirm_above: float
    yes: bool
    max_cost: float | None
    allow_unknown_cost: bool
    allow_fallback: bool
    limit: int | None
    invalid_lines: str
    retry_failed: bool
    new: bool
    detach: bool
    blocked_timeout: float

    @property
    def sending(self) -> dict[str, object]:
        return {"invalid_lines": self.invalid_lines}

    @property
    def limits(self) -> dict[str, Any]:
        return {
            "max_cost": self.max_cost,
            "allow_unknown_cost": self.allow_unknown_cost,
            "allow_fallback": self.allow_fallback,
            "line_limit": self.limit,
        }


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Results in input order; errors go beside it.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N lines for now.")
@click.option("--max-cost", type=click.FloatRange(min=0), metavar="USD", help="Start no call that would pass this sum.")
@click.option("--allow-unknown-cost", is_flag=True, help="Under --max-cost, run models of unknown price too.")
@click.option("--allow-fallback", is_flag=True, help="Lines that ask for an alias may go on with its fallbacks.")
@click.option(
    "--confirm-above", type=float, default=5.0, show_default=True, metavar="USD", help="Ask first above this."
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--retry-failed", is_flag=True, help="Run lines again whose result is an error.")
@click.option("--new", is_flag=True, help="Start over: forget an earlier run of this FILE and buy every line again.")
@click.option("--skip-invalid", is_flag=True, help="Run the good lines of a file that has faulty ones.")
@click.option("--detach", is_flag=True, help="Submit and leave; 'gristmill watch' comes back to it.")
@click.option(
    "--blocked-timeout",
    type=click.FloatRange(min=0),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="Without a terminal: give up after all open lines were blocked for so long.",
)
@click.option("--server", metavar="URL", help="Use this server instead of one of this machine.")
def run(file: Path, out: Path | None, server: str | None, skip_invalid: bool, **options: Any) -> None:
    """Run all requests in FILE and write the results.

    Starts what it needs, or joins the server that runs. Interrupted in any way, the same command goes on
    where it was: no finished line is called again.
    """
    wanted = Options(invalid_lines="report" if skip_invalid else "fail", **options)
    requests = requests_file.read(file)
    outputs = Outputs(out=(out or default_out(file)).resolve())
    outputs.check(requests.path, needed=requests.size)
    settings = server_link.load_settings()
    place = server_link.open_home(settings)
    with signals.interruptible():
        link = Link(place, settings, url=server, with_lifeline=not wanted.detach)
        keep = False
        try:
            status = _Run(link, RunMemory(place), requests, outputs, wanted).execute()
            keep = wanted.detach
        finally:
            link.release(keep=keep)
    sys.exit(status)


class _Run:
    def __init__(
        self, link: Link, memory: RunMemory, requests: RequestsFile, outputs: Outputs, options: Options
    ) -> None:
        self._link = link
        self._memory = memory
        self._requests = requests
        self._outputs = outputs
        self._options = options
        self._identity = requests.identity(options.sending)
        self._began = time.monotonic()

    def execute(self) -> int:
        """The exit status. Raises CliError or Interrupted."""
        batch = self._earlier()
        if batch is None:
            self._refuse_edited()
            batch = self._submit()
        again = batch.status in follow.AT_REST and self._options.retry_failed and batch.request_counts.failed > 0
        if batch.status in follow.AT_REST and not again:
            click.echo(f"{batch.id} is {batch.status}: nothing is called.", err=True)
            return self._finish(batch, Ending.REST)
        try:
            batch = self._start(batch, again=again)
            if self._options.detach:
                click.echo(f"{batch.id} runs on. 'gristmill watch {batch.id}' comes back to it.")
                return 0
            with progress.display(limit=self._options.limit) as display:
                batch, ending = follow.follow(self._link, batch.id, display, self._patience())
        except faults.Interrupted:
            self._pause(batch)
            with contextlib.suppress(OSError):  # the terminal may be gone
                click.echo(f"\nStopped. The same command goes on: {_command()}", err=True)
            raise
        if ending is Ending.BLOCKED:
            self._pause(batch)
        return self._finish(batch, ending)

    def _refuse_edited(self) -> None:
        """The new content is no continuation of the old, whose lines were paid for, and is not bought unasked."""
        before = self._memory.get(self._requests.path)
        if before is None or before.sha256 == self._requests.sha256 or self._options.new:
            return
        try:
            old = self._link.client.batch(before.batch)
        except faults.ApiFault:
            return
        if old.gristmill.attempts == 0:
            self._withdraw(old)
            return
        raise faults.UsageFault(
            f"{self._requests.path.name} was edited since {columns.count(progress.done(old))} of its lines were run "
            f"({old.id}).\n  --new runs the edited file from the start and writes {self._outputs.out.name};\n"
            f"  'gristmill results {old.id}' shows the old results."
        )

    def _earlier(self) -> schemas.Batch | None:
        """The batch of an earlier run of the same bytes. One that never began is as good as none."""
        batch = self._link.client.find(self._identity)
        if batch is None:
            return None
        began = batch.gristmill.attempts > 0 or batch.request_counts.completed > 0
        if self._options.new or (batch.status in follow.AT_REST and not began):
            self._withdraw(batch)
            return None
        click.echo(f"Going on with {batch.id} ({columns.count(progress.done(batch))} lines done).", err=True)
        return batch

    def _submit(self) -> schemas.Batch:
        client = self._link.client
        uploaded = client.upload(self._requests.path)
        if uploaded.bytes != self._requests.size:
            client.delete_file(uploaded.id)
            raise faults.UsageFault(f"{self._requests.path} changes while it is read: try again when it is at rest.")
        options = schemas.BatchOptions.model_validate(
            {
                **self._options.limits,
                "hold": True,
                "identity": self._identity,
                "invalid_lines": self._options.invalid_lines,
            }
        )
        return client.create(
            input_file_id=uploaded.id,
            endpoint=self._requests.endpoint,
            metadata={"file": self._requests.path.name[:512]},
            options=options,
        )

    def _start(self, batch: schemas.Batch, *, again: bool) -> schemas.Batch:
        """Say what will be paid, ask, and let the lines go."""
        with progress.display() as display:
            batch = follow.validated(self._link, batch.id, display)
        if batch.status == "failed":
            self._withdraw(batch)
            raise faults.UsageFault(self._refusal(batch))
        self._memory.put(self._requests.path, Remembered(sha256=self._requests.sha256, batch=batch.id))
        coming = plan.Plan.of(batch, limit=self._options.limit, again=again)
        click.echo(coming.text())
        try:
            self._agree(coming, asked_before=_began(batch) and not again)
        except faults.UsageFault:
            if not _began(batch):
                self._withdraw(batch)
            raise
        try:
            return self._link.client.resume(batch.id, **self._options.limits, retry_failed=again)
        except faults.ApiFault as fault:
            if fault.http_status != CONFLICT or again:
                raise
            return batch  # it came to rest meanwhile

    def _agree(self, coming: plan.Plan, *, asked_before: bool) -> None:
        """Raises UsageFault; then nothing was called."""
        if self._options.max_cost is not None and coming.unknown and not self._options.allow_unknown_cost:
            raise faults.UsageFault(
                f"the price of {', '.join(coming.unknown)} is unknown, so --max-cost cannot be kept. "
                "Give it under 'prices' in gristmill.yaml, or say --allow-unknown-cost."
            )
        on_terminal = sys.stdin.isatty() and sys.stdout.isatty()
        if self._options.yes or asked_before or not on_terminal or coming.cost_usd <= self._options.confirm_above:
            return
        if not click.confirm(f"Run this for about {columns.money(coming.cost_usd)}?"):
            raise faults.UsageFault("nothing was called.")

    def _patience(self) -> follow.Patience:
        waits_for_people = sys.stderr.isatty()
        return follow.Patience(
            limit=self._options.limit,
            blocked_seconds=None if waits_for_people else self._options.blocked_timeout,
        )

    def _finish(self, batch: schemas.Batch, ending: Ending) -> int:
        self._outputs.write(self._link.client, batch)
        click.echo(totals.text(batch, wall_seconds=time.monotonic() - self._began))
        click.echo(f"results: {self._outputs.out}")
        if batch.request_counts.failed:
            click.echo(f"errors:  {self._outputs.errors}")
            again = "--retry-failed runs them again"
            click.echo(f"{columns.plural(batch.request_counts.failed, 'line')} failed; {again}.", err=True)
        if ending is Ending.LIMIT:
            click.echo(f"Stopped after --limit {self._options.limit}; without it the same command goes on.", err=True)
        elif ending is not Ending.REST:
            raise faults.Stopped(f"{self._why(batch, ending)}\n{_command()}")
        return totals.exit_status(batch, limit=self._options.limit if ending is Ending.LIMIT else None)

    def _why(self, batch: schemas.Batch, ending: Ending) -> str:
        left = columns.plural(batch.gristmill.open, "line")
        match ending:
            case Ending.CAPPED:
                return f"--max-cost is reached with {left} to go. The same command with a higher one goes on:"
            case Ending.FAILING:
                return f"{left} wait because all before them failed alike. The same command sends them nevertheless:"
        return f"{left} are blocked: {'; '.join(progress.blocks(batch))}. When that is mended, go on with:"

    def _refusal(self, batch: schemas.Batch) -> str:
        found = line_faults.text(batch)
        hint = "Nothing was called."
        if "missing_api_key" in line_faults.codes(batch) and not self._link.is_own:
            hint += " The server that runs was started without the key: stop it, and run this again."
        elif batch.errors is not None and any(error.line for error in batch.errors.data):
            hint += " --skip-invalid runs the good lines."
        return f"{self._requests.path.name} cannot be run:\n{found}\n{hint}"

    def _pause(self, batch: schemas.Batch) -> None:
        """Other commands may start the server again: this batch waits for its own."""
        try:
            self._link.client.pause(batch.id, timeout=PAUSE_TIMEOUT_SECONDS)
        except faults.CliError:
            return

    def _withdraw(self, batch: schemas.Batch) -> None:
        """Cancel what still waits, and leave no copy of the input behind."""
        client = self._link.client
        if batch.status not in follow.AT_REST:
            client.cancel(batch.id)
        if not _began(batch):
            try:
                client.delete_file(batch.input_file_id)
            except faults.ApiFault:
                return


def _began(batch: schemas.Batch) -> bool:
    return batch.gristmill.attempts > 0


def _command() -> str:
    return shlex.join(["gristmill", *sys.argv[1:]])
