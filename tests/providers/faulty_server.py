"""A raw socket server that misbehaves as told, and one call against it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import orjson

from providers import call, client, deployment, registry, request, result, secret

Handler = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]

KEY = "sk-very-secret-0123456789"
MODEL = b'"alias"'
BODY = b'{"model": "alias", "messages": [{"role": "user", "content": "h\\u00e9llo"}], "seed": 12345678901234567890}'


def http(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    lines = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status} Whatever\r\n{head}\r\n".encode() + body


def says(answer: bytes) -> Handler:
    """Answers with these bytes and closes."""

    async def handler(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    return handler


def replies(status: int, body: Any, headers: Mapping[str, str] | None = None) -> Handler:
    return says(http(status, body if isinstance(body, bytes) else orjson.dumps(body), headers))


def chat(**changes: Any) -> dict[str, Any]:
    """A good answer, changed at the top level."""
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hello!"}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}
    return {"id": "c", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage} | changes


@contextlib.asynccontextmanager
async def listening(handler: Handler) -> AsyncIterator[str]:
    """Yields the base URL. The handler gets each whole request and writes; then the connection is closed."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await handler(await read_request(reader), writer)

    async with serving(serve) as base_url:
        yield base_url


@contextlib.asynccontextmanager
async def serving(serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[str]:
    """Yields the base URL of a server that gives each connection to `serve` and leaves nothing open."""
    running: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        running.add(task)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await serve(reader, writer)
        writer.close()
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await writer.wait_closed()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()
        await asyncio.sleep(0)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        (line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")), 0
    )
    return head + await reader.readexactly(int(length))


def deployed(base_url: str, **changes: Any) -> deployment.Deployment:
    known = {"provider": "here", "model": "real", "api_key": secret.Secret(KEY), "timeout": 20.0, **changes}
    return deployment.Deployment(spec=registry.get("openai"), base_url=base_url, **known)


def asking(body: bytes = BODY, endpoint: str = "chat/completions") -> request.ProviderRequest:
    return request.ProviderRequest(
        endpoint=endpoint, model="real", body=body, model_offset=body.index(MODEL), model_length=len(MODEL)
    )


async def calling(base_url: str, limits: Mapping[str, Any], changes: Mapping[str, Any]) -> result.ProviderResult:
    async with client.Client(**limits) as opened:
        return await call.call(opened, deployed(base_url, **changes), asking())


def call_once(handler: Handler, *, limits: Mapping[str, Any] | None = None, **changes: Any) -> result.ProviderResult:
    """One call of a server with this handler; `changes` are the deployment's, `limits` the client's."""

    async def run() -> result.ProviderResult:
        async with listening(handler) as base_url:
            return await calling(base_url, limits or {}, changes)

    return asyncio.run(run())
