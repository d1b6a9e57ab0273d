"""The HTTP client that all calls of a process share."""

import asyncio
import ssl
import typing

import httpx

from providers import answer, content
from providers import transport as transports

MAX_RESPONSE = 64 * 1024 * 1024
CONNECT_TIMEOUT = 10.0  # seconds for TCP and TLS


class Client:
    """An httpx client over aiohttp whose answers are capped while they are read, and which follows no redirect.

    One per event loop. `max_connections` 0 means no limit: the caller limits its calls.
    """

    def __init__(
        self,
        *,
        max_connections: int = 0,
        max_response: int = MAX_RESPONSE,
        proxy: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._max_response = max_response
        self._transport = transport or _transport(max_connections, proxy, ssl_context)
        self.http = httpx.AsyncClient(transport=self._transport, trust_env=False, follow_redirects=False)

    async def __aenter__(self) -> typing.Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()

    async def post(self, url: httpx.URL, headers: httpx.Headers, body: bytes, timeout: float) -> answer.Answer:
        """Sends and reads the whole answer within `timeout` seconds; raises TimeoutError, httpx or content errors.

        The request goes to the transport directly: AsyncClient.send costs as much again and adds only what we refuse
        (cookies, redirects, authentication flows).
        """
        limits = {"connect": min(CONNECT_TIMEOUT, timeout / 2)}
        stream = transports.Body(body)
        request = httpx.Request("POST", url, headers=headers, stream=stream, extensions={"timeout": limits})
        async with asyncio.timeout(timeout):
            response = await self._transport.handle_async_request(request)
            stream_back = typing.cast(httpx.AsyncByteStream, response.stream)
            try:
                return await self._read(response.status_code, _flat(response.headers), stream_back)
            finally:
                await stream_back.aclose()

    async def _read(self, status: int, headers: dict[str, str], stream: httpx.AsyncByteStream) -> answer.Answer:
        decoder = content.Decoder(headers.get("content-encoding", "").strip().lower(), self._max_response)
        chunks = [decoder.decode(chunk) async for chunk in stream]
        decoder.finish()
        return answer.Answer(status, headers, chunks[0] if len(chunks) == 1 else b"".join(chunks))


def _flat(headers: httpx.Headers) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers.raw}


def _transport(max_connections: int, proxy: str | None, ssl_context: ssl.SSLContext | None) -> transports.Transport:
    return transports.Transport(max_connections=max_connections, proxy=proxy, ssl_context=ssl_context)
