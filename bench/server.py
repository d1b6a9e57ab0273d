"""The server that all clients are measured against: the project's simulator, or another program that does the same."""

import dataclasses
import re
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import httpx
import psutil

from bench.case import Behaviour

ROOT = Path(__file__).resolve().parents[1]
STOP_SECONDS = 10.0


class ServerError(Exception):
    """The server did not come up; the message is what it said."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """What the server counted."""

    calls: int
    accepted: int
    answered: int
    refused: int
    """By a limit."""
    injected: int
    early_retries: int
    calls_after_ok: int
    max_in_flight: int
    tokens: int
    span: float
    """Seconds from the first request to the last answer."""


class Kind(Protocol):
    """What sort of program the server is."""

    @property
    def name(self) -> str: ...

    @property
    def model(self) -> str:
        """That it serves."""

    @property
    def config(self) -> dict[str, Any]:
        """What gristmill.yaml must say so that the model is found under its bare name."""

    def command(self, behaviour: Behaviour) -> list[str]: ...

    def seen(self, stats: dict[str, Any]) -> Seen: ...

    def control(self, client: httpx.Client, *, rpm: int) -> None: ...


class Server:
    """One process on a free loopback port; ``with Server(kind, behaviour) as server``."""

    def __init__(self, kind: Kind, behaviour: Behaviour) -> None:
        self._kind, self._behaviour = kind, behaviour
        self._child: subprocess.Popen[bytes] | None = None
        self._client = httpx.Client(trust_env=False, timeout=60)
        self.url = ""

    def __enter__(self) -> Self:
        with tempfile.TemporaryFile() as said:
            self._child = subprocess.Popen(
                self._kind.command(self._behaviour),
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
            )
            assert self._child.stdout is not None
            first = self._child.stdout.readline().decode()
            found = re.search(r"http://[\w.:]+", first)
            if found is None:
                self.stop()
                said.seek(0)
                raise ServerError(f"{self._kind.name} did not say where it listens: {first}{said.read().decode()}")
        self.url = found[0]
        self._client.base_url = httpx.URL(self.url)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def model(self) -> str:
        return self._kind.model

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    @property
    def cpu_seconds(self) -> float:
        assert self._child is not None
        times = psutil.Process(self._child.pid).cpu_times()
        return times.user + times.system

    def seen(self) -> Seen:
        return self._kind.seen(self._client.get("/stats?brief").raise_for_status().json())

    def control(self, *, rpm: int) -> None:
        self._kind.control(self._client, rpm=rpm)

    def drain(self, calls: int) -> None:
        """Use up the bucket, with a key's name that all clients share."""
        for number in range(calls):
            message = {"role": "user", "content": f"nonce:drain-{number}"}
            body = {"model": self._kind.model, "messages": [message], "max_tokens": 48}
            self._client.post("/v1/chat/completions", json=body, headers={"authorization": f"Bearer {KEY}"})

    def stop(self) -> None:
        self._client.close()
        if self._child is None:
            return
        self._child.terminate()
        try:
            self._child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                pipe.close()


KEY = "sk-bench"
"""The API key of every client: the servers' limits are by key."""
