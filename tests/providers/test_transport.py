"""The transport under httpx's own client, with httpx's own exceptions."""

import asyncio
import socket

import httpx
import pytest

from providers import transport
from tests.providers import faulty_server


def getting(handler, timeout=5.0, **request):
    async def run():
        async with (
            faulty_server.listening(handler) as base_url,
            httpx.AsyncClient(transport=transport.Transport(), timeout=timeout) as client,
        ):
            return await client.request(url=base_url, **{"method": "GET", **request})

    return asyncio.run(run())


def test_it_carries_an_ordinary_client():
    seen = []

    async def handler(request, writer):
        seen.append(request)
        writer.write(faulty_server.http(201, b'{"a": 1}', {"x-more": "1"}))

    answer = getting(handler, method="PUT", params={"q": "a b/\u00e9"}, json={"k": "v"})
    assert (answer.status_code, answer.json(), answer.headers["x-more"]) == (201, {"a": 1}, "1")
    assert seen[0].startswith(b"PUT /v1?q=a+b%2F%C3%A9 HTTP/1.1\r\n")
    assert seen[0].endswith(b'{"k":"v"}')


def test_a_refused_connection_is_a_connect_error():
    async def run(port):
        async with httpx.AsyncClient(transport=transport.Transport()) as client:
            await client.get(f"http://127.0.0.1:{port}/")

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(httpx.ConnectError):
            asyncio.run(run(taken.getsockname()[1]))


def test_a_connection_that_never_stands_is_a_connect_timeout():
    async def run():
        limits = httpx.Timeout(5.0, connect=0.2)
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            address = full.getsockname()
            waiting = [socket.socket() for _ in range(4)]
            for each in waiting:
                each.setblocking(False)
                each.connect_ex(address)
            try:
                async with httpx.AsyncClient(transport=transport.Transport(), timeout=limits) as client:
                    await client.get(f"http://127.0.0.1:{address[1]}/")
            finally:
                for each in waiting:
                    each.close()

    with pytest.raises(httpx.ConnectTimeout):
        asyncio.run(run())


def test_a_server_that_closes_after_the_request_is_a_protocol_error():
    with pytest.raises(httpx.RemoteProtocolError):
        getting(faulty_server.says(b""))


def test_a_cut_body_is_a_protocol_error():
    with pytest.raises(httpx.RemoteProtocolError):
        getting(faulty_server.says(faulty_server.http(200, b"x" * 100)[:-10]))


def test_a_silent_server_is_a_read_timeout():
    async def handler(_, writer):
        await asyncio.sleep(30)

    with pytest.raises(httpx.ReadTimeout):
        getting(handler, timeout=0.2)


def test_a_silent_connection_is_probed(monkeypatch):
    made = []
    original = transport._socket
    probed = []

    def noting(address):
        made.append(original(address))
        return made[-1]

    async def handler(request, writer):
        probed.append(made[0].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
        writer.write(faulty_server.http(200, b"{}"))

    monkeypatch.setattr(transport, "_socket", noting)
    getting(handler)
    assert probed == [1]


def test_a_scheme_it_does_not_speak_is_refused():
    async def run():
        async with httpx.AsyncClient(transport=transport.Transport()) as client:
            await client.get("ftp://127.0.0.1/")

    with pytest.raises(httpx.UnsupportedProtocol):
        asyncio.run(run())
