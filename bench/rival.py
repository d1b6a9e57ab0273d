"""Another client on the same key: ``peers/steady.py`` as a process, from when the work begins until it ends."""

import json
import subprocess
from types import TracebackType
from typing import Self

from bench import environment
from bench.server import KEY, ROOT, Server


class Rival:
    """``share``: which part of its calls was answered, once it has ended."""

    def __init__(self, server: Server, per_second: float) -> None:
        self._told = {"url": server.base_url, "key": KEY, "model": server.model, "per_second": per_second}
        self.share = 0.0
        self.calls = 0

    def __enter__(self) -> Self:
        self._child = subprocess.Popen(
            [str(environment.python("aiohttp")), "-m", "bench.peers.steady"],
            cwd=ROOT,
            env=environment.plain(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._child.stdin is not None and self._child.stdout is not None
        self._child.stdin.write(json.dumps(self._told) + "\n")
        self._child.stdin.flush()
        self._child.stdout.readline()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        said, _ = self._child.communicate("\n", timeout=60)
        counts = json.loads(said)
        self.calls = counts["answered"] + counts["refused"]
        self.share = counts["answered"] / max(1, self.calls)
