"""OUT and the error file beside it: checked before the first call, written whole or not at all."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from api import schemas
from api.cli import faults
from api.cli.client import Client

LEAST_FREE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Outputs:
    """Where results go: answers to ``out``, errors to ``errors``, both in input order."""

    out: Path

    @property
    def errors(self) -> Path:
        return self.out.with_name(f"{_stem(self.out)}.errors.jsonl")

    def check(self, file: Path, *, needed: int) -> None:
        """Find out now, and not when everything is paid for, that nothing could be written. Raises UsageFault."""
        folder = self.out.parent
        for path in (self.out, self.errors):
            if path == file:
                raise faults.UsageFault(f"the results would overwrite {file}: choose another -o.")
            if path.exists() and not path.is_file():
                raise faults.UsageFault(f"{path} is not a regular file: choose another -o.")
        with writing(folder):
            with tempfile.TemporaryFile(dir=folder) as probe:
                probe.write(b"\0" * 4096)
                probe.flush()
            if shutil.disk_usage(folder).free < max(LEAST_FREE_BYTES, needed):
                raise faults.UsageFault(f"{folder} has too little free disk space for the results.")

    def write(self, client: Client, batch: schemas.Batch) -> None:
        """What there is of the batch's results. An error file without lines is not there."""
        extension = batch.gristmill
        with client.content(batch.output_file_id or extension.output_file_id) as chunks:
            replace(self.out, chunks)
        with client.content(batch.error_file_id or extension.error_file_id) as chunks:
            if not replace(self.errors, chunks):
                self.errors.unlink(missing_ok=True)


def default_out(file: Path) -> Path:
    """``requests.jsonl`` gives ``requests.results.jsonl``."""
    return file.with_name(f"{_stem(file)}.results.jsonl")


def replace(path: Path, chunks: Iterable[bytes]) -> int:
    """Write a file in one step, and return its size: readers see the old bytes or all of the new ones."""
    with writing(path.parent):
        mask = os.umask(0)
        os.umask(mask)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                for chunk in chunks:
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
                size = file.tell()
            os.chmod(name, path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~mask)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    return size


def _stem(path: Path) -> str:
    return path.name.removesuffix(".jsonl")


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Explains why nothing can be written there. Raises UsageFault."""
    try:
        yield
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else str(error.strerror)
        raise faults.UsageFault(f"results cannot be written in {folder}: {reason}.") from None
