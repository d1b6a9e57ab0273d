"""A mill on trial: a real server with its real workers in a home of its own, handled from outside by HTTP, SQL and pid.

Faults are signals to processes; nothing in the product knows that it is being tried. Only ``hasten_probes`` moves a
clock: it writes into the database what half a minute of waiting would have come to.
"""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import httpx
import psutil
import psycopg
import yaml

from tests.polling import until
from worker import owner
from worker.embedded.home import Home
from worker.embedded.valkey import Valkey

START_SECONDS = 60.0
REST_SECONDS = 60.0
MOST_IN_FLIGHT = 64
"""Calls in flight of one worker process."""
UNCOMMITTED = 64
"""Answers that may wait for their commit besides: a flush takes some 20 ms."""
LEASE_SECONDS, DRAIN_SECONDS, GRACE_SECONDS = 3.0, 2.0, 3.0
CLOCKS = {
    "GRISTMILL_LEASE_SECONDS": str(LEASE_SECONDS),
    "GRISTMILL_HEARTBEAT_SECONDS": "1",
    "GRISTMILL_DRAIN_SECONDS": str(DRAIN_SECONDS),
    "GRISTMILL_CANCEL_GRACE_SECONDS": str(GRACE_SECONDS),
    "GRISTMILL_MAX_IN_FLIGHT": str(MOST_IN_FLIGHT),
}
AT_REST = ("failed", "completed", "expired", "cancelled")

Child = subprocess.Popen[bytes]


class Mill:
    """One home, and the server that lives in it; ``start`` again after ``kill_everything``."""

    def __init__(
        self,
        home: Path,
        simulator_url: str,
        *,
        providers: dict[str, Any] | None = None,
        models: dict[str, Any] | None = None,
        **environment: str,
    ) -> None:
        self.home = home
        self._environment = {**_plain_environment(), **CLOCKS, **environment}
        self._environment["GRISTMILL_HOME"] = str(home)
        self._environment["GRISTMILL_SIMULATOR_URL"] = simulator_url
        self._environment["GRISTMILL_CONFIG"] = str(home.parent / "gristmill.yaml")
        (home.parent / "gristmill.yaml").write_text(
            yaml.safe_dump({"providers": providers or {}, "models": models or {}})
        )
        self._server: Child | None = None
        self._helpers: list[Child] = []
        self._client: httpx.Client | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """The server and its children; returns when both workers take work."""
        with open(self.home.parent / "server.log", "ab") as log:
            self._server = subprocess.Popen(
                [sys.executable, "-P", "-m", "api.server", "--port", "0", "--lifeline"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.home.parent,
                env=self._environment,
                start_new_session=True,
            )
        url = until(self._url, START_SECONDS)
        self._client = httpx.Client(base_url=url, timeout=30, trust_env=False)
        self.await_workers()

    def stop(self) -> None:
        """In order, by letting go of the lifeline."""
        if self._client is not None:
            self._client.close()
        _end([child for child in (self._server, *self._helpers) if child is not None])

    # Processes

    @property
    def server(self) -> int:
        assert self._server is not None
        return self._server.pid

    @property
    def valkey(self) -> int:
        """Of the one that lives; fails after a while if none does."""
        return until(self._valkey)

    @property
    def redis_url(self) -> str:
        return Valkey(Home(path=self.home)).address.url

    def worker(self, name: str = "providers") -> int:
        """The worker of that name that has registered and lives; waits for one."""
        return until(lambda: self.workers().get(name), START_SECONDS)

    def workers(self) -> dict[str, int]:
        """Pids of registered, living workers by name (``control``, ``providers``, names of ``hire``)."""
        rows = self.rows("SELECT name, id FROM process WHERE stopped_at IS NULL ORDER BY started_at")
        return {name.partition("@")[0]: int(id.split("/")[2]) for name, id in rows if not owner.is_dead(id)}

    def await_workers(self, *names: str) -> None:
        until(lambda: {"control", "providers", *names} <= self.workers().keys(), START_SECONDS)

    def hire(self, name: str) -> int:
        """One more provider worker, as an operator would start it: with the environment of the supervisor's."""
        with open(self.home.parent / "hired.log", "ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-P", "-m", "worker", "gristmill-worker", "--lifeline", "--name", name],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.home,
                env={**self._environment, "GRISTMILL_REDIS_URL": self.redis_url},
                start_new_session=True,
            )
        self._helpers.append(child)
        return child.pid

    def dismiss(self) -> None:
        """End those who were hired."""
        _end(self._helpers)
        self._helpers = []

    def kill(self, pid: int) -> None:
        """kill -9; returns when it is dead."""
        os.kill(pid, signal.SIGKILL)
        until(lambda: not lives(pid))

    def terminate(self, pid: int) -> None:
        os.kill(pid, signal.SIGTERM)

    def kill_everything(self) -> None:
        """kill -9 of the server, its workers and Valkey; what is left is the home."""
        pids = [self.server, *self.workers().values(), self.valkey]
        with frozen(pids):  # so that none sees another one die
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
        self._bury(pids)

    def kill_server(self) -> None:
        """kill -9 of the server alone: its workers notice, and end in order."""
        pids = [self.server, *self.workers().values()]
        os.kill(self.server, signal.SIGKILL)
        self._bury(pids)

    def _bury(self, pids: Iterable[int]) -> None:
        assert self._server is not None and self._server.stdin is not None
        self._server.wait()
        self._server.stdin.close()
        self.client.close()
        until(lambda: not any(map(lives, pids)), DRAIN_SECONDS + 15)

    # What a client does

    @property
    def client(self) -> httpx.Client:
        assert self._client is not None
        return self._client

    def submit(self, lines: Iterable[bytes], *, window: str = "24h", **options: Any) -> str:
        """Upload and create; the batch's id. ``options`` go into the object ``gristmill``."""
        answer = self.client.post(
            "/v1/files", data={"purpose": "batch"}, files={"file": ("in.jsonl", b"\n".join(lines))}
        )
        assert answer.status_code == 200, answer.text
        body = {
            "input_file_id": answer.json()["id"],
            "endpoint": "/v1/chat/completions",
            "completion_window": window,
            "gristmill": options,
        }
        answer = self.client.post("/v1/batches", json=body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    def batch(self, id: str) -> dict[str, Any]:
        answer = self.client.get(f"/v1/batches/{id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def cancel(self, id: str) -> None:
        answer = self.client.post(f"/v1/batches/{id}/cancel")
        assert answer.status_code == 200, answer.text

    def content(self, id: str | None) -> bytes:
        """The bytes of an output or error file; nothing if there is none."""
        return self.client.get(f"/v1/files/{id}/content").raise_for_status().content if id else b""

    def is_at_rest(self, id: str, *, within: float = 0.0) -> bool:
        """Whether the batch has ended, or does so within some seconds."""
        end = time.monotonic() + within
        while not (rests := self.field(id, "status") in AT_REST) and time.monotonic() < end:
            time.sleep(0.02)
        return rests

    def errors(self, id: str) -> list[dict[str, Any]]:
        """The responses in the error file."""
        lines = self.content(self.batch(id)["error_file_id"]).splitlines()
        return [json.loads(line)["response"] for line in lines]

    def await_rest(self, id: str, seconds: float = REST_SECONDS) -> None:
        assert self.is_at_rest(id, within=seconds), f"after {seconds:g} s it is still {self.batch(id)}"

    def await_done(self, id: str, lines: int, seconds: float = REST_SECONDS) -> None:
        """Until so many lines have succeeded."""
        until(lambda: self.field(id, "completed") >= lines, seconds)

    def await_block(self, id: str, reason: str, seconds: float = REST_SECONDS) -> None:
        """Until the batch says that it is blocked, and why."""
        until(lambda: any(block["reason"] == reason for block in self.batch(id)["gristmill"]["blocked_by"]), seconds)

    def command(self, *arguments: str, input: str = "") -> str:
        """What ``gristmill ...`` prints, run beside the server with its settings."""
        done = subprocess.run(
            [sys.executable, "-P", "-c", "from api import cli; cli.main()", *arguments],
            input=input,
            capture_output=True,
            text=True,
            cwd=self.home.parent,
            env=self._environment,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    # What only the database knows

    def rows(self, sql: str, *values: Any) -> list[Any]:
        if (url := self._environment.get("GRISTMILL_DATABASE_URL")) is not None:
            with psycopg.connect(url.replace("+psycopg", "")) as elsewhere:
                return elsewhere.execute(sql.replace("?", "%s").encode(), values).fetchall()
        with contextlib.closing(sqlite3.connect(self.home / "gristmill.db", timeout=30)) as connection:
            return connection.execute(sql, values).fetchall()

    def field(self, id: str, name: str) -> Any:
        """A column of the batch's row."""
        return self.rows(f"SELECT {name} FROM batch WHERE id = ?", id)[0][0]

    def hasten_probes(self) -> None:
        """As if the time until the next probe of every resting scope had passed."""
        with contextlib.closing(sqlite3.connect(self.home / "gristmill.db", timeout=30)) as connection:
            connection.execute("UPDATE scope SET probe_at = 0 WHERE paused_at IS NOT NULL")
            connection.commit()

    def _url(self) -> str | None:
        assert self._server is not None
        assert self._server.poll() is None, (self.home.parent / "server.log").read_text()[-4000:]
        try:
            state = json.loads((self.home / "server.json").read_bytes())
        except FileNotFoundError:
            return None
        return str(state["url"]) if state["pid"] == self._server.pid else None

    def _valkey(self) -> int | None:
        try:
            pid = int(json.loads((self.home / "valkey" / "state.json").read_bytes())["pid"])
        except FileNotFoundError:
            return None
        return pid if lives(pid) else None


def requests(
    name: str, count: int, *, model: str = "simulator/tiny", text: str = "Grind.", first: int = 1, **body: Any
) -> list[bytes]:
    """Lines with custom ids ``name-1``, ``name-2`` ...; each is also the nonce by which the simulator knows it."""
    return [
        json.dumps(
            {
                "custom_id": f"{name}-{number}",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {
                    "model": model,
                    "messages": [{"role": "user", "content": f"{text} nonce:{name}-{number}"}],
                    **body,
                },
            }
        ).encode()
        for number in range(first, first + count)
    ]


def lives(pid: int) -> bool:
    """A zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextlib.contextmanager
def frozen(pids: Sequence[int]) -> Iterator[None]:
    """SIGSTOP, and SIGCONT at the end for whoever still lives."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def last(seconds: float) -> None:
    """The length of a fault, where its length is the fault."""
    time.sleep(seconds)


def _plain_environment() -> dict[str, str]:
    """Without the settings and keys of the person who runs the tests."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GRISTMILL_") and not name.endswith(("_API_KEY", "_BASE_URL"))
    }


def _end(children: Sequence[Child]) -> None:
    """They end in order when their lifelines are cut; one that does not is killed, and that is a failure."""
    for child in children:
        if child.stdin is not None and not child.stdin.closed:
            child.stdin.close()
    late = [child for child in children if not _ends(child)]
    for child in late:
        child.kill()
        child.wait()
    assert not late, "processes did not end by themselves"


def _ends(child: Child) -> bool:
    try:
        child.wait(DRAIN_SECONDS + 20)
    except subprocess.TimeoutExpired:
        return False
    return True
