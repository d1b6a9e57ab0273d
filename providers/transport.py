"""httpx's transport over aiohttp, with httpx's exceptions told truthfully.

httpx's own pool costs 10 times the CPU at 100 calls in flight. The published bridges report "server disconnected after
the request was sent" as a connect timeout, which makes a call that may be billed look safe to repeat.
"""

import collections.abc
import contextlib
import ssl

import aiohttp
import httpx
import yarl
from typing_extensions import override

CHUNK = 256 * 1024
MAX_HEADER = 64 * 1024
KEEPALIVE = 4.5  # seconds: less than the 5 s of uvicorn and Node, so that no pooled connection closes under a request
DNS_TTL = 60

# First match wins, so subclasses stand above their bases.
_EXCEPTIONS: tuple[tuple[type[Exception], type[httpx.TransportError]], ...] = (
    (aiohttp.ClientProxyConnectionError, httpx.ProxyError),
    (aiohttp.ClientHttpProxyError, httpx.ProxyError),
    (aiohttp.ConnectionTimeoutError, httpx.ConnectTimeout),
    (aiohttp.ClientConnectorError, httpx.ConnectError),  # refused, DNS, TLS
    (aiohttp.ServerFingerprintMismatch, httpx.ConnectError),
    (aiohttp.ServerTimeoutError, httpx.ReadTimeout),
    (aiohttp.ServerDisconnectedError, httpx.RemoteProtocolError),
    (aiohttp.ClientPayloadError, httpx.RemoteProtocolError),  # cut body, broken chunk
    (aiohttp.ClientResponseError, httpx.RemoteProtocolError),  # no HTTP at all
    (aiohttp.InvalidURL, httpx.UnsupportedProtocol),
    (aiohttp.NonHttpUrlClientError, httpx.UnsupportedProtocol),
    (aiohttp.ClientError, httpx.ReadError),  # reset and whatever else comes after the connection stood
    (TimeoutError, httpx.ReadTimeout),
    (OSError, httpx.ReadError),
)


class Transport(httpx.AsyncBaseTransport):
    """Opens its session in the running loop at the first request. No cookies, no redirects, no environment."""

    def __init__(
        self, *, max_connections: int = 0, proxy: str | None = None, ssl_context: ssl.SSLContext | None = None
    ) -> None:
        self._max_connections = max_connections  # 0: no limit
        self._proxy = proxy
        self._ssl = ssl_context
        self._session: aiohttp.ClientSession | None = None

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        session = self._session or self._open()
        content = request.stream if not isinstance(request.stream, httpx.ByteStream) else request.content
        # httpx has escaped the URL already: escaping it again would change it.
        url = yarl.URL(str(request.url), encoded=True)
        with truthful():
            answer = await session.request(
                request.method,
                url,
                headers=_header_items(request.headers),
                data=content,
                allow_redirects=False,
                proxy=None if _is_loopback(url) else self._proxy,
                timeout=_timeout(request.extensions.get("timeout")),
            )
        return httpx.Response(answer.status, headers=answer.raw_headers, stream=Stream(answer), request=request)

    def _open(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=self._max_connections,
            ssl=self._ssl or httpx.create_ssl_context(),
            keepalive_timeout=KEEPALIVE,
            ttl_dns_cache=DNS_TTL,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            max_line_size=MAX_HEADER,
            max_field_size=MAX_HEADER,
            skip_auto_headers=("user-agent", "accept", "accept-encoding", "content-type"),
        )
        return self._session

    @override
    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


class Stream(httpx.AsyncByteStream):
    """The body as it comes from the wire, still compressed."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    @override
    async def __aiter__(self) -> collections.abc.AsyncIterator[bytes]:
        with truthful():
            async for chunk in self._answer.content.iter_any():
                yield chunk

    @override
    async def aclose(self) -> None:
        # Gives the connection back if the body was read to its end, and closes it otherwise.
        self._answer.release() if self._answer.content.at_eof() else self._answer.close()


@contextlib.contextmanager
def truthful() -> collections.abc.Iterator[None]:
    """Turns aiohttp's exceptions into httpx's. The cause is dropped: it can hold headers, and with them the key."""
    try:
        yield
    except (aiohttp.ClientError, OSError) as error:
        raise _translated(error) from None


def _translated(error: Exception) -> httpx.TransportError:
    kind = next(to for known, to in _EXCEPTIONS if isinstance(error, known))
    # Only connection errors speak of hosts and errno; the others may quote what was sent or received.
    return kind(str(error) if isinstance(error, aiohttp.ClientConnectorError) else type(error).__name__)


def _timeout(limits: dict[str, float | None] | None) -> aiohttp.ClientTimeout:
    limits = limits or {}
    return aiohttp.ClientTimeout(
        total=None, connect=limits.get("pool"), sock_connect=limits.get("connect"), sock_read=limits.get("read")
    )


def _header_items(headers: httpx.Headers) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers.raw]


def _is_loopback(url: yarl.URL) -> bool:
    return url.host in ("localhost", "127.0.0.1", "::1")
