import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from providers.simulator.process import Process
from tests.polling import until
from worker.embedded.home import Home

COMMAND = Path(sys.executable).with_name("gristmill")
PATIENCE = 90.0
NOTHING: Mapping[str, str] = {}
NO_TERMINAL = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


class Mill:
    """The command as its users have it, in a home and a working directory of its own."""

    def __init__(self, folder: Path, simulator: Process) -> None:
        self.home = Home(path=folder / "home")
        self.folder = folder / "work"
        self.folder.mkdir()
        self.simulator = simulator
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        self._environment["GRISTMILL_HOME"] = str(self.home.path)
        self._environment["OPENAI_BASE_URL"] = simulator.base_url

    def write(self, name: str, lines: int, *, model: str = "openai/tiny", text: str = "") -> Path:
        """A file of requests; the simulator counts the calls of each."""
        path = self.folder / name
        with path.open("w") as file:
            for number in range(lines):
                message = {"role": "user", "content": f"{text} nonce:{name}-{number}"}
                request = {"custom_id": f"line-{number}", "method": "POST", "url": "/v1/chat/completions"}
                file.write(json.dumps({**request, "body": {"model": model, "messages": [message]}}) + "\n")
        return path

    def start(
        self,
        *arguments: str,
        streams: Mapping[str, int] = NO_TERMINAL,
        preexec_fn: Callable[[], None] | None = None,
        environment: Mapping[str, str] = NOTHING,
    ) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [COMMAND, *arguments],
            cwd=self.folder,
            env={**self._environment, **environment},
            stdin=streams["stdin"],
            stdout=streams["stdout"],
            stderr=streams["stderr"],
            preexec_fn=preexec_fn,
            text=True,
            start_new_session=True,
        )

    def finish(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        with self.start(*arguments, environment=environment) as running:
            out, err = running.communicate(timeout=PATIENCE)
        return subprocess.CompletedProcess(arguments, running.returncode, out, err)

    def answered(self) -> int:
        return int(self.simulator.stats()["answered"])

    def processes(self) -> list[psutil.Process]:
        """Server, workers, simulator and Valkey of this home."""
        found = []
        for process in psutil.process_iter(["cwd", "status"]):
            inside = str(process.info["cwd"] or "").startswith(str(self.home.path))
            if inside and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process)
        return found

    def kill_everything(self) -> None:
        """kill -9 of all, frozen first so that none sees another one die."""
        found = self.processes()
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for process in found:
                process.send_signal(number)
        until(lambda: not self.processes())


@pytest.fixture
def mill() -> Iterator[Mill]:
    with tempfile.TemporaryDirectory(prefix="gm-") as folder, Process(latency=0.05) as simulator:
        mill = Mill(Path(folder), simulator)
        try:
            yield mill
        finally:
            for process in mill.processes():
                process.kill()


def ids_in(path: Path) -> list[str]:
    return [json.loads(line)["custom_id"] for line in path.read_text().splitlines()]
