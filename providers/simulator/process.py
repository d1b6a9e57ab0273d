"""A simulator as a child process, for tests, the demo and rehearsals."""

import json
import pathlib
import subprocess
import sys
import urllib.request
from typing import Any, Self

ROOT = pathlib.Path(__file__).resolve().parents[2]
PATIENCE = 10.0


class StartError(Exception):
    """The simulator did not come up; the message is what it said."""


class Process:
    """`with Process(rpm=60) as simulator:` runs one on a free loopback port; it ends when its parent does."""

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._child: subprocess.Popen[bytes] | None = None
        self.url = ""

    @property
    def base_url(self) -> str:
        """What an OpenAI client wants."""
        return f"{self.url}/v1"

    def __enter__(self) -> Self:
        # The room's own parent folder comes last in the path, and the working directory is not in it at all.
        start = f"import sys; sys.path.append({str(ROOT)!r}); from providers.simulator import __main__ as simulator; "
        start += "sys.exit(simulator.main())"
        command = [sys.executable, "-P", "-c", start, "--port", "0", "--lifeline", *_arguments(self._options)]
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._child.stdout is not None
        ready = self._child.stdout.readline().decode().strip()
        if not ready.startswith("READY "):
            self.stop()
            raise StartError(f"the simulator ended with status {self._child.returncode}: {ready}")
        self.url = ready.removeprefix("READY ")
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        if self._child is None:
            return
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def stats(self, *, nonces: bool = False) -> dict[str, Any]:
        return dict(self._ask("/stats?nonces" if nonces else "/stats"))

    def requests(self) -> list[dict[str, Any]]:
        """The last ones, as many as the option `record` says."""
        return list(self._ask("/requests"))

    def control(self, **changes: Any) -> None:
        """Raises HTTPError (400) on an option that does not exist."""
        self._ask("/control", changes)

    def reset(self) -> None:
        self._ask("/reset", {})

    def _ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(self.url + path, data), timeout=PATIENCE) as answer:
            return json.load(answer)


def _arguments(options: dict[str, Any]) -> list[str]:
    made = []
    for name, value in options.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            made.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            made += [f"--{flag}", json.dumps(value) if isinstance(value, dict) else str(value)]
    return made
