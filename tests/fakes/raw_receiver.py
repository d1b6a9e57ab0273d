"""A webhook receiver that does with the socket whatever it is told, once it has heard a request."""

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self


class RawReceiver:
    """``answer`` runs in a thread of each connection; a peer that hangs up ends it."""

    def __init__(self, answer: Callable[[socket.socket], None]) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/hook"
        self.heard: list[bytes] = []
        """What was asked, one a connection."""
        self.closing = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.closing.set()
        self._listener.close()

    def hang(self, _: socket.socket) -> None:
        """As an ``answer``: none, until the test ends."""
        self.closing.wait()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._handle, args=(self._listener.accept()[0],), daemon=True).start()

    def _handle(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            self.heard.append(connection.recv(65_536))
            self._answer(connection)
