"""Where a Valkey listens, and the few words of its protocol that a supervisor needs."""

import re
import socket
from dataclasses import dataclass
from pathlib import Path

PATIENCE_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """A unix socket in a private directory, or a loopback port with a password."""

    path: Path | None = None
    port: int | None = None
    password: str | None = None

    @property
    def url(self) -> str:
        """For redis-py; Settings.broker makes Celery's from it."""
        if self.path is not None:
            return f"unix://{self.path}"
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def process_id(self) -> int | None:
        """The pid of the Valkey that answers there with our password; None while it does not or still loads."""
        try:
            with self._connect() as connection:
                if self.password is not None:
                    connection.sendall(f"AUTH {self.password}\r\n".encode())
                connection.sendall(b"INFO server\r\nPING\r\n")
                answer = _read_until(connection, b"+PONG\r\n")
        except OSError:
            return None
        found = re.search(rb"process_id:(\d+)", answer)
        return int(found[1]) if found and answer.endswith(b"+PONG\r\n") else None

    def _connect(self) -> socket.socket:
        family = socket.AF_INET if self.path is None else socket.AF_UNIX
        connection = socket.socket(family, socket.SOCK_STREAM)
        connection.settimeout(PATIENCE_SECONDS)
        try:
            connection.connect(("127.0.0.1", self.port) if self.path is None else str(self.path))
        except BaseException:
            connection.close()
            raise
        return connection


def _read_until(connection: socket.socket, end: bytes) -> bytes:
    """What came until the answer to PING, or until an error that comes in the place of any answer."""
    answer = b""
    while not answer.endswith(end) and not re.search(rb"(?:^|\n)-[A-Z]+ [^\r\n]*\r\n\Z", answer):
        piece = connection.recv(65_536)
        if not piece:
            break
        answer += piece
    return answer
