"""httpx's transport over aiohttp, with httpx's exceptions told truthfully.

httpx's own pool costs 10 times the CPU at 100 calls in flight. The published bridges report "server disconnected after
the request was sent" as a connect timeout, which makes a call that may be billed look safe to repeat.
"""

import collections.abc
import functools
import socket
import ssl

import aiohttp
import httpx
import yarl
from typing_extensions import override

MAX_HEADER = 64 * 1024
KEEPALIVE = 4.5  # seconds: less than the 5 s of uvicorn and Node, so that no pooled connection closes under a request
DNS_TTL = 60
PROBE_AFTER = 60  # seconds of silence; NAT gateways forget a silent connection after about 5 minutes

_LOOPBACK = ("localhost", "127.0.0.1", "::1")

# First match wins, so subclasses stand above their bases. The words are ours where aiohttp's may quote what was sent or
# received; None keeps aiohttp's, which name host, port and system error.
_EXCEPTIONS: tuple[tuple[type[Exception], type[httpx.TransportError], str | None], ...] = (
    (aiohttp.ClientProxyConnectionError, httpx.ProxyError, None),
    (aiohttp.ClientHttpProxyError, httpx.ProxyError, "the proxy refused"),
    (aiohttp.ConnectionTimeoutError, httpx.ConnectTimeout, "no connection in time"),
    (aiohttp.ClientConnectorError, httpx.ConnectError, None),  # refused, DNS, TLS
    (aiohttp.ServerFingerprintMismatch, httpx.ConnectError, "another server than expected"),
    (aiohttp.ServerTimeoutError, httpx.ReadTimeout, "no answer in time"),
    (aiohttp.ServerDisconnectedError, httpx.RemoteProtocolError, "the server closed the connection without an answer"),
    (aiohttp.ClientPayloadError, httpx.RemoteProtocolError, "the answer was cut or broken"),
    (aiohttp.ClientResponseError, httpx.RemoteProtocolError, "the answer is not HTTP"),
    (aiohttp.InvalidURL, httpx.UnsupportedProtocol, "not a URL"),
    (aiohttp.NonHttpUrlClientError, httpx.UnsupportedProtocol, "not an HTTP URL"),
    (aiohttp.ClientError, httpx.ReadError, "the connection was reset"),
    (TimeoutError, httpx.ReadTimeout, "no answer in time"),
    (OSError, httpx.ReadError, "the connection was reset"),
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
        stream = request.stream
        limits = request.extensions.get("timeout", {})
        url = _url(str(request.url))
        try:
            answer = await session.request(
                request.method,
                url,
                headers=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw],
                data=stream.content if isinstance(stream, Body) else await request.aread(),
                allow_redirects=False,
                proxy=self._proxy if self._proxy and url.host not in _LOOPBACK else None,
                timeout=_timeout(limits.get("connect"), limits.get("read"), limits.get("pool")),
            )
        except (aiohttp.ClientError, OSError) as error:
            raise _truthful(error) from None
        return httpx.Response(answer.status, headers=answer.raw_headers, stream=Stream(answer), request=request)

    def _open(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=self._max_connections,
            ssl=self._ssl or httpx.create_ssl_context(),
            keepalive_timeout=KEEPALIVE,
            ttl_dns_cache=DNS_TTL,
            socket_factory=_socket,
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


class Body(httpx.ByteStream):
    """A request's body that the transport need not read back."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.content = content


class Stream(httpx.AsyncByteStream):
    """The answer's body as it comes from the wire, still compressed."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    @override
    async def __aiter__(self) -> collections.abc.AsyncIterator[bytes]:
        try:
            async for chunk in self._answer.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, OSError) as error:
            raise _truthful(error) from None

    @override
    async def aclose(self) -> None:
        # Gives the connection back if the body was read to its end, and closes it otherwise.
        self._answer.release() if self._answer.content.at_eof() else self._answer.close()


def _truthful(error: Exception) -> httpx.TransportError:
    """The httpx exception. Raise it `from None`: the cause can hold headers, and with them the key."""
    kind, words = next((to, words) for known, to, words in _EXCEPTIONS if isinstance(error, known))
    return kind(words or str(error))


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """A socket whose silence is probed: an answer may take 20 minutes, a lost peer must not hold its call that long."""
    made = socket.socket(*address[:3])
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name in ("TCP_KEEPIDLE", "TCP_KEEPALIVE", "TCP_KEEPINTVL"):  # macOS calls the first one as the second
        if hasattr(socket, name):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), PROBE_AFTER)
    return made


@functools.lru_cache(maxsize=256)
def _url(text: str) -> yarl.URL:
    return yarl.URL(text, encoded=True)  # httpx has escaped it already: escaping it again would change it


@functools.lru_cache(maxsize=256)
def _timeout(connect: float | None, read: float | None, pool: float | None) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, connect=pool, sock_connect=connect, sock_read=read)
