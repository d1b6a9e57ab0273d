"""The first step after upload: read the file once, chunk by chunk, and let the batch begin or fail."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from sqlmodel import select

from providers.json_text import storable
from worker import database, tables
from worker.allowed_models import AllowedModels
from worker.blobs import Blob, BlobError, Blobs
from worker.catalog import Catalog
from worker.intake import duplicates, estimate, reader
from worker.intake.line import LineProblem, parse
from worker.routes import RouteError
from worker.states import BatchStatus, Kind
from worker.store import api_keys, purses
from worker.store import intake as store
from worker.store.intake import BadLine, Chunk, NewJob, Overtaken

CHUNK_LINES = 2_000
CHUNK_BYTES = 4 << 20
ONE_LINE = 16 << 10
"""Bytes of a read that wants one line."""
OPENAI_LINES = 50_000
MESSAGE_LENGTH = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Intake:
    """Reads input files. ``openai_limits`` enforces what OpenAI itself would refuse."""

    database: database.Database
    blobs: Blobs
    catalog: Catalog
    openai_limits: bool = False

    def take_in(self, number: int) -> None:
        """Validate the batch's file from its cursor on. Safe to run twice at once: one of them is overtaken."""
        batch = self._batch(number)
        if batch.status != BatchStatus.VALIDATING:
            return
        try:
            with self.blobs.open(batch.input_file_id) as blob:
                self._read(batch, blob)
        except Overtaken:
            return
        except BlobError as error:
            self._note(batch, BadLine(line=0, custom_id=None, code="file_unreadable", message=str(error), param=None))
        self._end(number)

    def _read(self, batch: tables.Batch, blob: Blob) -> None:
        seen = duplicates.SeenIds(_reread(blob))
        self._remember(batch, blob, seen)
        lines = reader.read(blob, line=batch.intake_line, offset=batch.intake_offset)
        with self.database.read() as session:
            allowed = api_keys.allowed(session, batch.api_key)
        for chunk in self._chunks(batch, lines, seen, allowed):
            self.database.write(partial(store.append, batch=batch, chunk=chunk))

    def _chunks(
        self,
        batch: tables.Batch,
        lines: Iterator[reader.RawLine],
        seen: duplicates.SeenIds,
        allowed: AllowedModels,
    ) -> Iterator[Chunk]:
        build = _Building(batch.intake_line, batch.intake_offset)
        for raw in lines:
            build.move(raw)
            try:
                build.add(self._job(raw, seen, allowed))
            except LineProblem as problem:
                build.bad(raw.number, problem)
            if build.full:
                yield build.finish(self.catalog)
                build = _Building(raw.number, raw.next_offset)
        if build.moved:
            yield build.finish(self.catalog)

    def _job(self, raw: reader.RawLine, seen: duplicates.SeenIds, allowed: AllowedModels) -> NewJob | None:
        """None for a blank line. Raises LineProblem."""
        if raw.bytes is None:
            raise LineProblem("line_too_long", f"The line is longer than {reader.LONGEST >> 20} MiB.")
        if not raw.bytes.strip():
            return None
        line = parse(raw.bytes)
        if seen.add(line.custom_id, raw.offset) is not None:
            raise LineProblem(
                "duplicate_custom_id",
                f"The custom_id '{line.custom_id}' for this request is a duplicate of another request. "
                "The custom_id parameter must be unique for each request in a batch.",
                "custom_id",
                line.custom_id,
            )
        try:
            route = self.catalog.resolve(line.model)
            allowed.check(line.model, route)
        except RouteError as error:
            raise LineProblem(error.code, str(error), "body.model", line.custom_id) from None
        return NewJob(
            line=raw.number,
            route=route.name,
            custom_id=line.custom_id,
            endpoint=line.endpoint,
            offset=raw.offset + line.offset,
            length=line.length,
            model_offset=line.model_offset,
            model_length=line.model_length,
            input_tokens=estimate.input_tokens(line.body, line.length),
            output_tokens=estimate.output_tokens(line.endpoint, line.body),
        )

    def _remember(self, batch: tables.Batch, blob: Blob, seen: duplicates.SeenIds) -> None:
        """After a restart: the ids of the lines before the cursor."""
        if batch.intake_line:
            head = reader.read(blob, line=0, offset=0)
            for raw in head:
                if raw.number > batch.intake_line:
                    return
                try:
                    seen.add(parse(raw.bytes or b"").custom_id, raw.offset)
                except LineProblem:
                    continue

    def _end(self, number: int) -> None:
        batch = self._batch(number)
        for problem in (*_whole_file_problems(batch, self.openai_limits), *self._budget_problems(batch)):
            self._note(batch, problem)
        failed = self.database.write(lambda session: store.conclude(session, number))
        if failed:
            while not self.database.write(lambda session: store.clear(session, number)):
                continue
        else:
            self.database.write(store.analyze)

    def _budget_problems(self, batch: tables.Batch) -> Iterator[BadLine]:
        with self.database.read() as session:
            message = purses.shortage(session, batch)
        if message is not None:
            yield _file_problem("budget_exceeded", message)

    def _note(self, batch: tables.Batch, problem: BadLine) -> None:
        self.database.write(lambda session: store.note_file_problem(session, batch, problem))

    def _batch(self, number: int) -> tables.Batch:
        with self.database.read() as session:
            return session.exec(select(tables.Batch).where(tables.Batch.number == number)).one()


class _Building:
    """A chunk in the making."""

    def __init__(self, line: int, offset: int) -> None:
        self._chunk = Chunk(line=line, offset=offset, next_line=line, next_offset=offset)
        self._jobs: dict[str, list[NewJob]] = {}
        self._count = 0

    @property
    def moved(self) -> bool:
        return self._chunk.next_offset != self._chunk.offset

    @property
    def full(self) -> bool:
        return self._count >= CHUNK_LINES or self._chunk.next_offset - self._chunk.offset >= CHUNK_BYTES

    def move(self, raw: reader.RawLine) -> None:
        self._count += 1
        self._chunk.next_line, self._chunk.next_offset = raw.number, raw.next_offset

    def add(self, job: NewJob | None) -> None:
        if job is not None:
            self._jobs.setdefault(job.route, []).append(job)

    def bad(self, line: int, problem: LineProblem) -> None:
        self._chunk.bad.append(
            BadLine(
                line=line,
                custom_id=problem.custom_id,
                code=problem.code,
                message=storable(problem.message, MESSAGE_LENGTH) or "",
                param=storable(problem.param),
            )
        )

    def finish(self, catalog: Catalog) -> Chunk:
        for route, jobs in self._jobs.items():
            size = catalog.slice_jobs(route, len(jobs))
            self._chunk.slices += [(route, jobs[i : i + size]) for i in range(0, len(jobs), size)]
            self._chunk.prices[route] = catalog.token_prices(route)
        return self._chunk


def _reread(blob: Blob) -> Callable[[int], str]:
    def custom_id(offset: int) -> str:
        raw = next(iter(reader.read(blob, line=0, offset=offset, chunk=ONE_LINE)))
        return parse(raw.bytes or b"").custom_id

    return custom_id


def _whole_file_problems(batch: tables.Batch, openai_limits: bool) -> Iterator[BadLine]:
    lines = batch.total if batch.invalid_lines == "report" else batch.total + batch.invalid
    if lines == 0:
        yield _file_problem("empty_file", "The input file has no lines.")
    if openai_limits and batch.kind == Kind.BATCH and lines > OPENAI_LINES:
        yield _file_problem(
            "too_many_tasks", f"The file has {lines} lines; with `limits: openai` at most {OPENAI_LINES}."
        )


def _file_problem(code: str, message: str) -> BadLine:
    return BadLine(line=0, custom_id=None, code=code, message=message, param=None)
