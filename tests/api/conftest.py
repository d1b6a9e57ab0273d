"""The real application under a real uvicorn on loopback; only the engine behind it is missing."""

import dataclasses
import functools
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from api import app
from api.services import Services
from tests import polling
from worker.blobs import Blobs
from worker.config import Config
from worker.database import Database
from worker.routes import Routes
from worker.settings import Settings


class Bell:
    """Remembers what it was rung for."""

    def __init__(self) -> None:
        self.rung: list[int] = []
        self.held: list[int] = []

    def ring_intake(self, batch: int) -> bool:
        self.rung.append(batch)
        return True

    def ring_held(self, slices: Sequence[tuple[int, int]]) -> bool:
        self.held += [slice for slice, _ in slices]
        return True


@dataclasses.dataclass(kw_only=True)
class Server:
    url: str
    services: Services
    bell: Bell
    http: httpx.Client

    @functools.cached_property
    def sdk(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="any", max_retries=0)

    @property
    def database(self) -> Database:
        return self.services.database

    @property
    def stored(self) -> list[Path]:
        """Every file in the file store, finished or not."""
        return [path for path in self.services.blobs.folder.rglob("*") if path.is_file()]


Serve = Callable[..., Server]


class Stage:
    """One uvicorn for all tests: stopping one takes a fifth of a second."""

    def __init__(self) -> None:
        self.app: ASGIApp
        self.url = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    stage = Stage()
    server = uvicorn.Server(uvicorn.Config(stage, host="127.0.0.1", port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    polling.until(lambda: server.started)
    stage.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    yield stage
    server.should_exit = server.force_exit = True
    thread.join()


@pytest.fixture
def serve(tmp_path: Path, sqlite_template: Path, stage: Stage) -> Iterator[Serve]:
    """Serves a fresh application; the arguments replace fields of its services."""
    stops: list[Callable[[], None]] = []

    def start(**changes: Any) -> Server:
        shutil.copy(sqlite_template, tmp_path / "gristmill.db")
        bell = Bell()
        services = Services(
            database=changes.pop("database", None) or Database(f"sqlite:///{tmp_path}/gristmill.db"),
            blobs=Blobs(tmp_path / "files"),
            routes=Routes(Config(), Settings()),
            doorbell=bell,
            broker_answers=lambda: True,
            slice_jobs=lambda route: 200,
            day_window_seconds=7 * 86_400,
            lease_seconds=45,
        )
        services = dataclasses.replace(services, **changes)
        stage.app = app.create_app(services)
        http = httpx.Client(base_url=stage.url, verify=False)  # no TLS here, and its context is slow to make
        stops.extend((services.database.close, http.close))
        return Server(url=stage.url, services=services, bell=bell, http=http)

    yield start
    for stop in reversed(stops):
        stop()


@pytest.fixture
def server(serve: Serve) -> Server:
    return serve()
