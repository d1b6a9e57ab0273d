"""A simulator in this process, asked without a socket, and one that runs as its own process."""

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from providers.simulator import app, options, process


class Response(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = self.json["error"]
        return error


Ask = Callable[..., Response]


def ask_app(simulator: app.Simulator, path: str, body: Any, key: str = "sk-test") -> Response:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent: list[Any] = []
    path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "method": "GET" if body is None else "POST",
        "path": path,
        "query_string": query.encode(),
        "headers": [(b"authorization", f"Bearer {key}".encode())] if key else [],
    }

    async def receive() -> Any:
        return {"type": "http.request", "body": data, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(simulator(scope, receive, send))
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Response(sent[0]["status"], headers, b"".join(message["body"] for message in sent[1:]))


@pytest.fixture(scope="session")
def make() -> Callable[..., Ask]:
    """`make(rpm=3)` gives a function that asks a fresh simulator with these options."""

    def made(**chosen: Any) -> Ask:
        simulator = app.Simulator(options.Options().changed(chosen))
        return lambda path, body=None, key="sk-test": ask_app(simulator, path, body, key)

    return made


@pytest.fixture
def ask(make: Callable[..., Ask]) -> Ask:
    return make()


@pytest.fixture(scope="session")
def running() -> Iterator[process.Process]:
    with process.Process() as simulator:
        yield simulator


@pytest.fixture
def simulator(running: process.Process) -> process.Process:
    """The shared process, with nothing counted yet."""
    running.reset()
    return running
