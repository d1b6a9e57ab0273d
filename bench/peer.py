"""A peer: one of the programs in ``peers``, as a process in an environment of its own."""

import contextlib
import dataclasses
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench import environment
from bench.client import ClientError, Done
from bench.server import KEY, ROOT

START_SECONDS = 60.0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """``module`` in ``peers``, with the packages of ``requirements``."""

    module: str
    requirements: str
    title: str


PROGRAMS: Mapping[str, Program] = {
    program.module: program
    for program in (
        Program(module="aiohttp_once", requirements="aiohttp", title="bare aiohttp loop, no retries"),
        Program(module="aiohttp_retries", requirements="aiohttp", title="bare aiohttp loop with retries"),
        Program(module="cookbook", requirements="aiohttp", title="OpenAI cookbook's method"),
        Program(module="openai_sdk", requirements="openai", title="AsyncOpenAI and a semaphore"),
        Program(module="litellm_router", requirements="litellm", title="litellm's Router"),
    )
}


class Peer:
    """``options``: at_once, rpm, tpm: what its user told it."""

    def __init__(self, program: Program, folder: Path, base_url: str, options: Mapping[str, Any]) -> None:
        self._program, self._folder, self._base_url, self._options = program, folder, base_url, options
        self._child: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        given = {**self._options, "url": self._base_url, "key": KEY}
        with (self._folder / "peer.log").open("ab") as log:
            self._child = subprocess.Popen(
                [str(environment.python(self._program.requirements)), "-m", f"bench.peers.{self._program.module}"],
                cwd=ROOT,
                env=environment.plain(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.say(json.dumps(given))
        if self.hear() != "READY":
            self.stop()
            raise self._dead()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def work(self, lines: Path, answers: Path, *, patience: float) -> Done:
        self.say(json.dumps({"lines": str(lines), "answers": str(answers), "patience": patience}))
        said = self.hear()
        if not said.startswith("{"):
            raise self._dead()
        cost = json.loads(said)
        if cost["overdue"]:
            raise ClientError(f"not done after {patience:.0f} s")
        return Done(
            seconds=cost["seconds"],
            cpu_seconds=cost["cpu_seconds"],
            peaks={self._program.module: cost["peak"]},
            startup_cpu=cost["startup_cpu"],
        )

    def stop(self) -> None:
        assert self._child is not None
        self._child.kill()
        self._child.communicate()

    def say(self, line: str) -> None:
        assert self._child is not None and self._child.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._child.stdin.write(line + "\n")
            self._child.stdin.flush()

    def hear(self) -> str:
        assert self._child is not None and self._child.stdout is not None
        return self._child.stdout.readline().strip()

    def _dead(self) -> ClientError:
        return ClientError(f"{self._program.module} ended:\n{(self._folder / 'peer.log').read_text()[-1500:]}")
