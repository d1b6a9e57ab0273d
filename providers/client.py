"""The HTTP client that all calls of a process share."""

import asyncio
import ssl
import typing

import httpx

from providers import answer, content, transport

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
        request = httpx.Request("POST", url, headers=headers, content=body, extensions={"timeout": limits})
        async with asyncio.timeout(timeout):
            response = await self._transport.handle_async_request(request)
            try:
                return answer.Answer(response.status_code, response.headers, await self._read(response))
            finally:
                await response.stream.aclose()  # type: ignore[union-attr]

    async def _read(self, response: httpx.Response) -> bytes:
        decoder = content.Decoder(response.headers.get("content-encoding", "").strip().lower(), self._max_response)
        chunks = [decoder.decode(chunk) async for chunk in response.stream]  # type: ignore[union-attr]
        decoder.finish()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _transport(max_connections: int, proxy: str | None, ssl_context: ssl.SSLContext | None) -> transport.Transport:
    return transport.Transport(max_connections=max_connections, proxy=proxy, ssl_context=ssl_context)
