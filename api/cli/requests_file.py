"""The FILE of a run: what it is known by, and what was last run from it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from api.cli import faults
from worker.embedded import home

ENDPOINTS = ("/v1/chat/completions", "/v1/embeddings", "/v1/completions")
LONGEST_PEEK = 64 * 1024 * 1024
"""Bytes of the first line that are looked at for its endpoint."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestsFile:
    """A file of requests as it was when it was read."""

    path: Path
    size: int
    sha256: str
    endpoint: str

    def identity(self, sending: Mapping[str, object]) -> str:
        """What is sent, in short: the file's bytes and the options that change it. Nothing about cost or output."""
        said = json.dumps(sending, sort_keys=True)
        return hashlib.sha256(f"{self.sha256}\n{said}".encode()).hexdigest()


def read(path: Path) -> RequestsFile:
    """Raises UsageFault."""
    if path.exists() and not path.is_file():
        raise faults.UsageFault(f"{path} is not a regular file.")
    try:
        with path.open("rb") as file:
            endpoint = _endpoint(file.readline(LONGEST_PEEK))
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
    except OSError as error:
        raise faults.UsageFault(f"{path} cannot be read: {error.strerror}.") from None
    if size == 0:
        raise faults.UsageFault(f"{path} is empty.")
    return RequestsFile(path=path.resolve(), size=size, sha256=digest, endpoint=endpoint)


def _endpoint(line: bytes) -> str:
    """A batch is labelled with one endpoint, though its lines may name several. Faults are the server's to find."""
    try:
        url = json.loads(line.decode("utf-8-sig"))["url"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ENDPOINTS[0]
    return url if url in ENDPOINTS else ENDPOINTS[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class Remembered:
    """The last run of a FILE."""

    sha256: str
    batch: str


class RunMemory:
    """Which bytes of a FILE were run, so that an edited FILE is not bought again unasked."""

    def __init__(self, place: home.Home) -> None:
        self._folder = place.path / "runs"

    def get(self, file: Path) -> Remembered | None:
        try:
            entry = json.loads(self._entry(file).read_bytes())
            return Remembered(sha256=str(entry["sha256"]), batch=str(entry["batch"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def put(self, file: Path, run: Remembered) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        entry = {"file": str(file), "sha256": run.sha256, "batch": run.batch}
        home.write_private(self._entry(file), json.dumps(entry, indent=1).encode())

    def _entry(self, file: Path) -> Path:
        """A file each: runs at the same time do not overwrite each other's."""
        name = hashlib.sha256(str(file).encode()).hexdigest()[:32]
        return self._folder / f"{name}.json"
