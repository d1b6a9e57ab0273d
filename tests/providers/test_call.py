"""One call against servers that misbehave on the wire."""

import asyncio
import gzip
import socket
import traceback
import zlib

import httpx
import orjson
import pytest

from providers import call, client, errors, verdict
from tests.providers import faulty_server

GOOD = orjson.dumps(faulty_server.chat())


def failing(handler, kind, **options):
    with pytest.raises(errors.ProviderError) as caught:
        faulty_server.call_once(handler, **options)
    assert type(caught.value) is kind, caught.value
    return caught.value


def test_body_goes_out_byte_for_byte_but_for_the_model():
    seen = []

    async def handler(request, writer):
        seen.append(request)
        writer.write(faulty_server.http(200, GOOD))

    faulty_server.call_once(handler)
    head, body = seen[0].split(b"\r\n\r\n")
    assert body == faulty_server.BODY.replace(b'"alias"', b'"real"')
    assert head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    assert f"authorization: Bearer {faulty_server.KEY}".encode() in head.lower().replace(b"bearer", b"Bearer")
    assert b"cookie" not in head.lower()


def test_good_answer_is_kept_as_sent():
    result = faulty_server.call_once(faulty_server.replies(200, GOOD, {"x-request-id": "r1", "retry-after": "3"}))
    assert (result.body, result.request_id, result.headers) == (GOOD, "r1", {"retry-after": "3"})


def test_refused_connection_pauses_and_is_not_billed():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(errors.ConnectError) as caught:
            asyncio.run(faulty_server.calling(f"http://127.0.0.1:{taken.getsockname()[1]}/v1", {}, {}))
    assert caught.value.verdict == verdict.Pause(verdict.PauseReason.OUTAGE)
    assert not caught.value.may_be_billed
    assert caught.value.public_status() == 502


def test_unknown_host_pauses_and_is_not_billed():
    with pytest.raises(errors.ConnectError) as caught:
        asyncio.run(faulty_server.calling("http://nowhere.invalid/v1", {}, {}))
    assert not caught.value.may_be_billed


def test_tls_to_a_server_without_it_is_a_connect_error():
    async def serve(reader, writer):
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async def run():
        async with faulty_server.serving(serve) as base_url:
            await faulty_server.calling(base_url.replace("http", "https"), {}, {})

    with pytest.raises(errors.ConnectError):
        asyncio.run(run())


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-le",
        faulty_server.http(200, GOOD)[:-40],
        b'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{"id"\r\n',
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n",
        b"this is not HTTP\r\n\r\n",
        b"\x00\xff" * 400,
    ],
    ids=["closed", "cut head", "cut body", "cut chunk", "broken chunk", "text", "binary"],
)
def test_connection_that_breaks_after_sending_is_transient_and_may_be_billed(answer):
    error = failing(faulty_server.says(answer), errors.ConnectionDropped)
    assert error.verdict == verdict.Transient(None)
    assert error.may_be_billed


def test_reset_after_sending_may_be_billed():
    async def handler(_, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")
        await writer.drain()
        writer.transport.abort()

    assert failing(handler, errors.ConnectionDropped).may_be_billed


def test_silent_server_meets_the_deadline():
    async def handler(_, writer):
        await asyncio.sleep(30)

    error = failing(handler, errors.DeadlineError, timeout=0.2)
    assert error.may_be_billed
    assert error.public_status() == 504
    assert orjson.loads(error.public_body())["error"]["code"] == "timeout"


def test_slow_drip_meets_the_total_deadline():
    async def handler(_, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
        for _ in range(3000):
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.01)

    assert failing(handler, errors.DeadlineError, timeout=0.4).may_be_billed


def test_huge_body_is_not_read_to_its_end():
    sent = 0

    async def handler(_, writer):
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while sent < 64_000_000:
            writer.write(b"x" * 100_000)
            await writer.drain()
            sent += 100_000

    failing(handler, errors.ResponseTooLargeError, limits={"max_response": 1_000_000})
    assert sent < 60_000_000


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_compression_bomb_is_stopped_at_the_cap(encoding, pack):
    bomb = pack(b"0" * 50_000_000)
    assert len(bomb) < 100_000
    handler = faulty_server.replies(200, bomb, {"content-encoding": encoding})
    assert failing(handler, errors.ResponseTooLargeError, limits={"max_response": 1_000_000}).may_be_billed


def test_compressed_answer_is_read():
    handler = faulty_server.replies(200, gzip.compress(GOOD), {"content-encoding": "GZip"})
    assert faulty_server.call_once(handler).body == GOOD


@pytest.mark.parametrize(
    ("encoding", "body"), [("gzip", GOOD), ("gzip", gzip.compress(GOOD)[:-12]), ("br", GOOD)], ids=["lie", "cut", "br"]
)
def test_undecodable_answer_is_a_bad_response(encoding, body):
    handler = faulty_server.replies(200, body, {"content-encoding": encoding})
    assert failing(handler, errors.BadResponseError).may_be_billed


def test_redirect_is_not_followed_and_the_key_stays_home():
    seen = []

    async def elsewhere(request, writer):
        seen.append(request)

    async def run():
        async with faulty_server.listening(elsewhere) as other:
            handler = faulty_server.replies(307, b"", {"location": f"{other}/chat/completions"})
            async with faulty_server.listening(handler) as base_url:
                await faulty_server.calling(base_url, {}, {})

    with pytest.raises(errors.NotFoundError) as caught:
        asyncio.run(run())
    assert caught.value.code == "redirect_not_followed"
    assert caught.value.verdict == verdict.GiveUp()
    assert not seen


def test_no_cookie_comes_back():
    seen = []

    async def serve(reader, writer):
        while True:
            seen.append(await faulty_server.read_request(reader))
            writer.write(faulty_server.http(200, GOOD, {"set-cookie": "a=b; Path=/"}))

    async def run():
        async with faulty_server.serving(serve) as base_url, client.Client() as opened:
            for _ in range(2):
                await call.call(opened, faulty_server.deployed(base_url), faulty_server.asking())

    asyncio.run(run())
    assert len(seen) == 2
    assert b"cookie" not in seen[1].lower()


def test_key_that_a_server_echoes_is_nowhere_in_the_error():
    key = faulty_server.KEY
    escaped = key.replace("-", "\\u002d").encode()
    body = b'{"error": {"message": "bad key %s", "code": "%s", "type": "%s", "param": "%s"}}' % (
        key.encode(), escaped, escaped, escaped,
    )  # fmt: skip
    error = failing(faulty_server.replies(401, body), errors.AuthenticationError)
    shown = "".join(traceback.format_exception(error)) + repr(vars(error)) + repr(error.args)
    assert key not in shown + error.public_body().decode()
    assert key not in str(orjson.loads(error.public_body()))


def test_configured_header_that_a_server_echoes_is_masked():
    handler = faulty_server.replies(400, {"error": {"message": "bad hush-hush"}})
    error = failing(handler, errors.InvalidRequestError, headers=(("X-Gateway-Key", "hush-hush"),))
    assert "hush-hush" not in error.message + error.public_body().decode()


def test_proxy_is_used_for_all_but_loopback():
    seen = []

    async def handler(request, writer):
        seen.append(request.split(b"\r\n")[0])
        writer.write(faulty_server.http(200, GOOD))

    async def run():
        async with faulty_server.listening(handler) as proxy, faulty_server.listening(handler) as near:
            limits = {"proxy": proxy.removesuffix("/v1")}
            await faulty_server.calling("http://far.invalid/v1", limits, {})
            await faulty_server.calling(near, limits, {})

    asyncio.run(run())
    assert seen == [
        b"POST http://far.invalid/v1/chat/completions HTTP/1.1",
        b"POST /v1/chat/completions HTTP/1.1",
    ]


def test_key_is_not_in_the_traceback_of_a_broken_connection():
    error = failing(faulty_server.says(b"nonsense\r\n\r\n"), errors.ConnectionDropped)
    assert faulty_server.KEY not in "".join(traceback.format_exception(error))
    assert error.__cause__ is None
    assert error.__suppress_context__


def test_cancelling_passes_through_and_closes_the_connection():
    async def run():
        started, gone = asyncio.Event(), asyncio.Event()

        async def serve(reader, writer):
            await faulty_server.read_request(reader)
            started.set()
            await reader.read()
            gone.set()

        async with faulty_server.serving(serve) as base_url, client.Client() as opened:
            task = asyncio.create_task(call.call(opened, faulty_server.deployed(base_url), faulty_server.asking()))
            await started.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.wait_for(gone.wait(), 10)

    asyncio.run(run())


def test_endpoint_that_the_provider_lacks_is_refused_before_any_call():
    async def run():
        async with client.Client(transport=httpx.MockTransport(lambda _: httpx.Response(500))) as opened:
            asked = faulty_server.asking(endpoint="moderations")
            await call.call(opened, faulty_server.deployed("http://127.0.0.1:1/v1"), asked)

    with pytest.raises(errors.InvalidRequestError, match="moderations"):
        asyncio.run(run())


def test_ten_thousand_calls_at_128_in_flight_without_one_client_error():
    async def serve(reader, writer):
        while True:
            await faulty_server.read_request(reader)
            writer.write(faulty_server.http(200, GOOD))

    async def run():
        asked, left, done = faulty_server.asking(), iter(range(10_000)), []
        async with faulty_server.serving(serve) as base_url, client.Client() as opened:
            to = faulty_server.deployed(base_url)

            async def caller():
                for _ in left:
                    done.append((await call.call(opened, to, asked)).usage)

            await asyncio.gather(*(caller() for _ in range(128)))
        return done

    assert len(asyncio.run(run())) == 10_000
