"""Gristmill as a user starts it: ``gristmill serve`` in an empty home, ``gristmill worker`` for more, plain HTTP."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import psutil
import yaml

from bench import environment, meter
from bench.client import ClientError, Done
from bench.server import KEY
from worker.embedded.home import Home
from worker.embedded.valkey import Valkey

START_SECONDS = 90.0
STOP_SECONDS = 30.0
POLL_SECONDS = 0.25
AT_REST = ("completed", "failed", "cancelled", "expired")


class Mill:
    """One home and all its processes."""

    name = "gristmill"

    def __init__(self, folder: Path, base_url: str, config: dict[str, Any], *, workers: int = 1) -> None:
        self.home = folder / "home"
        self._folder, self._workers = folder, workers
        self._environment = {
            **environment.plain(),
            "GRISTMILL_HOME": str(self.home),
            "GRISTMILL_CONFIG": "",
            "OPENAI_BASE_URL": base_url,
            "OPENAI_API_KEY": KEY,
        }
        if config:
            (folder / "gristmill.yaml").write_text(yaml.safe_dump(config))
            self._environment["GRISTMILL_CONFIG"] = str(folder / "gristmill.yaml")
        self._children: list[subprocess.Popen[bytes]] = []
        self._client = httpx.Client(trust_env=False, timeout=600)
        self._meter: meter.Meter | None = None
        self.startup_cpu = 0.0

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self) -> None:
        self._spawn("serve", "--port", "0")
        self._client.base_url = httpx.URL(self._wait(self._url))
        self._wait(self._is_ready)
        for number in range(2, self._workers + 1):
            self._environment["GRISTMILL_REDIS_URL"] = Valkey(Home(path=self.home)).address.url
            self._spawn("worker", "--name", f"providers-{number}")
        self._meter = meter.Meter(self._processes)
        self._meter.settle(START_SECONDS)
        self.startup_cpu = self._meter.cpu_seconds()

    def work(self, lines: Path, answers: Path, *, patience: float) -> Done:
        """From the first upload byte to the last output byte. Raises ClientError."""
        assert self._meter is not None
        self._meter.peaks.clear()
        cpu, began = self._meter.cpu_seconds(), time.monotonic()
        batch = self.await_rest(self.submit(lines), patience)
        self.download(batch, answers)
        ended = time.monotonic()
        return Done(
            seconds=ended - began,
            cpu_seconds=self._meter.cpu_seconds() - cpu,
            peaks=dict(self._meter.peaks),
            startup_cpu=self.startup_cpu,
            marked_empty=sum(model["empty"] for model in batch["gristmill"]["models"]),
        )

    def submit(self, lines: Path) -> str:
        """Upload and create; the batch's id."""
        with lines.open("rb") as file:
            sent = self._client.post("/v1/files", data={"purpose": "batch"}, files={"file": ("in.jsonl", file)})
        body = {
            "input_file_id": self._answer(sent)["id"],
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
        }
        return str(self._answer(self._client.post("/v1/batches", json=body))["id"])

    def batch(self, id: str) -> dict[str, Any]:
        return self._answer(self._client.get(f"/v1/batches/{id}"))

    def await_rest(self, id: str, patience: float) -> dict[str, Any]:
        return self.await_batch(id, lambda batch: batch["status"] in AT_REST, patience)

    def await_batch(self, id: str, done: Callable[[dict[str, Any]], bool], patience: float) -> dict[str, Any]:
        """The batch as soon as it is as wanted. Raises ClientError."""
        end = time.monotonic() + patience
        while not done(batch := self.batch(id)):
            if time.monotonic() > end:
                raise ClientError(f"after {patience:.0f} s the batch is {batch['status']}: {batch['request_counts']}")
            time.sleep(POLL_SECONDS)
        return batch

    def download(self, batch: dict[str, Any], answers: Path) -> None:
        if not batch.get("output_file_id"):
            raise ClientError(f"the batch is {batch['status']} and has no output: {batch.get('errors')}")
        with (
            answers.open("wb") as file,
            self._client.stream("GET", f"/v1/files/{batch['output_file_id']}/content") as got,
        ):
            file.writelines(got.iter_bytes())

    def stop(self) -> None:
        if self._meter is not None:
            self._meter.close()
        self._client.close()
        for child in reversed(self._children):
            child.terminate()
        for child in self._children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(STOP_SECONDS)
        for process in self._processes().values():
            with contextlib.suppress(psutil.Error):
                process.kill()
        shutil.rmtree(self.home, ignore_errors=True)

    def _spawn(self, *arguments: str) -> None:
        with (self._folder / "gristmill.log").open("ab") as log:
            child = subprocess.Popen(
                [_program(), *arguments], cwd=self._folder, env=self._environment, stdout=log, stderr=log
            )
        self._children.append(child)

    def _wait(self, look: Callable[[], str]) -> str:
        end = time.monotonic() + START_SECONDS
        while not (found := look()):
            if self._children[0].poll() is not None or time.monotonic() > end:
                raise ClientError("gristmill did not start:\n" + (self._folder / "gristmill.log").read_text()[-2000:])
            time.sleep(0.05)
        return found

    def _url(self) -> str:
        with contextlib.suppress(FileNotFoundError, ValueError):
            return str(json.loads((self.home / "server.json").read_bytes())["url"])
        return ""

    def _is_ready(self) -> str:
        with contextlib.suppress(httpx.HTTPError):
            if self._client.get("/readyz").status_code == 200:
                return "ready"
        return ""

    def _answer(self, got: httpx.Response) -> dict[str, Any]:
        if got.status_code != 200:
            raise ClientError(f"{got.request.method} {got.request.url.path}: {got.status_code} {got.text[:500]}")
        return dict(got.json())

    def _processes(self) -> dict[str, psutil.Process]:
        """By name, the embedded Valkey among them, whoever its parent is."""
        living = meter.family(child.pid for child in self._children)
        with contextlib.suppress(OSError, ValueError, KeyError, psutil.Error):
            valkey = psutil.Process(int(json.loads((self.home / "valkey" / "state.json").read_bytes())["pid"]))
            living += [valkey] if "valkey" in valkey.name() else []
        return dict(_named({process.pid: process for process in living}.values()))


def _named(processes: Any) -> Iterator[tuple[str, psutil.Process]]:
    taken: dict[str, int] = {}
    for process in processes:
        with contextlib.suppress(psutil.Error):
            name = _name(process.cmdline())
            taken[name] = taken.get(name, 0) + 1
            yield name if taken[name] == 1 else f"{name}-{taken[name]}", process


def _name(command: list[str]) -> str:
    if "--control" in command:
        return "control"
    if "gristmill-worker" in command:
        return "providers"
    if "providers.simulator" in command:
        return "simulator"
    return "valkey" if any("valkey" in part for part in command[:1]) else "server"


def _program() -> str:
    beside = Path(sys.executable).with_name("gristmill")
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("gristmill")
    if found is None:
        raise ClientError("there is no gristmill beside this Python; ./bench/run installs it")
    return found
