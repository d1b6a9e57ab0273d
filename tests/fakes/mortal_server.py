"""The API of a database and a file store, in a process that dies (kill -9) right after it has committed a batch.

``python -m tests.fakes.mortal_server FOLDER``: prints its address; serves gristmill.db and files/ of the folder.
"""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import uvicorn
from sqlmodel import Session, select
from typing_extensions import override

from api import app, server
from api.services import Services
from worker.blobs import Blobs
from worker.config import Config
from worker.database import Database
from worker.routes import Routes
from worker.settings import Settings
from worker.tables import Batch

T = TypeVar("T")


class MortalDatabase(Database):
    @override
    def write(self, change: Callable[[Session], T]) -> T:
        answer = super().write(change)
        with self.read() as session:
            if session.exec(select(Batch)).first() is not None:
                os.kill(os.getpid(), signal.SIGKILL)
        return answer


class Deaf:
    def ring_intake(self, batch: int) -> bool:
        return False

    def ring_held(self, slices: Sequence[tuple[int, int]]) -> bool:
        return False


def main(folder: Path) -> None:
    services = Services(
        database=MortalDatabase(f"sqlite:///{folder}/gristmill.db"),
        blobs=Blobs(folder / "files"),
        routes=Routes(Config(), Settings()),
        doorbell=Deaf(),
        broker_answers=lambda: True,
        slice_jobs=lambda route: 200,
        day_window_seconds=86_400,
        lease_seconds=45,
    )
    listener = server.listen("127.0.0.1", 0)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)  # noqa: T201
    config = uvicorn.Config(app.create_app(services), log_level="warning", lifespan="off")
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
