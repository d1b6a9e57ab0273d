"""No webhook reaches what is not public: every URL of the table is refused, and nobody connects to the trap."""

import asyncio
import socket
from collections.abc import Iterator, Sequence

import aiohttp
import pytest

from worker.webhooks import dialling, target
from worker.webhooks.target import TargetError

HOSTS = """
127.0.0.1 127.1.2.3 0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 172.16.0.1 172.31.255.254 192.168.0.1 192.168.255.255
100.64.0.1 100.127.255.254 100.100.100.200 169.254.0.1 169.254.169.254 169.254.170.2 168.63.129.16 192.0.0.192
192.0.2.1 192.88.99.1 198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.7 224.0.0.1 239.255.255.250 240.0.0.1
255.255.255.255
[::1] [::] [0:0:0:0:0:0:0:1] [fd00::1] [fc00::1] [fd00:ec2::254] [fe80::1] [fec0::1] [ff02::1] [2001:db8::1] [3fff::1]
[100::1] [5f00::1] [::ffff:127.0.0.1] [::ffff:7f00:1] [::ffff:10.0.0.1] [::ffff:169.254.169.254] [::127.0.0.1]
[64:ff9b::7f00:1] [64:ff9b::10.0.0.1] [64:ff9b:1::7f00:1] [2002:7f00:1::] [2002:a00:1::] [2002:a9fe:a9fe::]
[2001:0:4136:e378:8000:63bf:80ff:fffe] [2001:0:7f00:1::]
2130706433 017700000001 0x7f000001 0x7f.0.0.1 0177.0.0.1 127.1 127.0.1 0x7f.1 127.0.0.1. 127.0.0.01 0 0x 00.0.0.0
999.1.1.1 1.2.3.4.5 256.256.256.256
localhost LOCALHOST localhost. sub.localhost metadata.google.internal printer.local db.home.arpa
127\u3002\u0030\u3002\u0030\u30021 \u2460\u2461\u2466.0.0.1 ex\u00e4mple.com %31%32%37.0.0.1 127.0.0.1%00.example.com
user@example.com user:password@example.com example.com@127.0.0.1 -example.com example..com .example.com
example.com:22 example.com:25 example.com:5432 example.com:6379 example.com:3306 example.com:11211 example.com:0
example.com:65536 example.com:+443 example.com\\@127.0.0.1 [::1%25lo] [fe80::1%25eth0] [::1 ::1 [127.0.0.1]
""".split()

FORMS = [
    "http://example.com/", "ftp://example.com/", "file:///etc/passwd", "gopher://example.com:70/_", "//example.com/",
    "https:example.com", "https:///etc", "https://", "", "javascript:alert(1)", "unix:///run/docker.sock",
    " https://example.com/", "https://example.com/\n", "https://exam\tple.com/", "https://example.com/a b",
    "https://example.com/#part", "https://example.com\\.evil.com/", "https://example.com/" + "a" * 2_048,
    "https://example.com/é", "https://example.com\x00.evil.com/",
]  # fmt: skip

BAD = [f"https://{host}/hook" for host in HOSTS] + FORMS


class Trap:
    """A listening socket that nobody must ever connect to."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]

    def connections(self) -> int:
        self._socket.setblocking(False)
        count = 0
        try:
            while True:
                self._socket.accept()[0].close()
                count += 1
        except BlockingIOError:
            return count

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def trap() -> Iterator[Trap]:
    trap = Trap()
    yield trap
    trap.close()


def post(url: str, *, private: bool = False, lookup: target.Lookup | None = None) -> int:
    """Send without any judgement of the URL: only resolver and sockets stand between it and the receiver."""

    async def send() -> int:
        connector = dialling.connector(private=private, lookup=lookup)
        timeout = aiohttp.ClientTimeout(total=3)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            session.post(url, allow_redirects=False) as answer,
        ):
            return answer.status

    return asyncio.run(send())


def test_the_table_is_long_enough() -> None:
    assert len(set(BAD)) >= 120


@pytest.mark.parametrize("url", BAD)
def test_a_bad_url_is_refused_when_it_is_saved(url: str) -> None:
    def lookup(host: str, port: int) -> Sequence[str]:
        raise AssertionError(f"{host} was looked up")

    with pytest.raises(TargetError):
        target.check(url, private=False, lookup=lookup)


@pytest.mark.parametrize("host", [host for host in HOSTS[:60] if "@" not in host])
def test_what_slipped_through_is_refused_when_it_is_dialled(host: str, trap: Trap) -> None:
    with pytest.raises((TargetError, OSError, aiohttp.ClientError, ValueError)):
        post(f"http://{host}:{trap.port}/")
    assert trap.connections() == 0


@pytest.mark.parametrize(
    "found", [["127.0.0.1"], ["93.184.216.34", "127.0.0.1"], ["2606:4700::1111", "::ffff:10.0.0.1"], ["fe80::1%eth0"]]
)
def test_one_bad_address_of_a_name_refuses_all(found: list[str], trap: Trap) -> None:
    with pytest.raises(TargetError):
        target.check("https://hooks.example.com/", private=False, lookup=lambda host, port: found)
    with pytest.raises(TargetError):
        post(f"http://hooks.example.com:{trap.port}/", lookup=lambda host, port: found)
    assert trap.connections() == 0


def test_a_name_that_changes_its_meaning_is_judged_when_it_is_dialled(trap: Trap) -> None:
    answers = [["93.184.216.34"], ["127.0.0.1"]]

    def lookup(host: str, port: int) -> Sequence[str]:
        return answers.pop(0)

    target.check("https://hooks.example.com/", private=False, lookup=lookup)
    with pytest.raises(TargetError):
        post(f"http://hooks.example.com:{trap.port}/", lookup=lookup)
    assert answers == [] and trap.connections() == 0


def test_the_answer_that_was_judged_is_the_one_dialled(trap: Trap) -> None:
    asked = []

    def lookup(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"]

    with pytest.raises((aiohttp.ClientError, TimeoutError)):
        asyncio.run(asyncio.wait_for(asyncio.to_thread(post, f"http://example.com:{trap.port}/", private=True,
                                                       lookup=lookup), 5))  # fmt: skip
    assert asked == ["example.com"] and trap.connections() == 1


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com", "https://example.com/hook?a=b&c=%20d", "HTTPS://Example.COM:8443/", "https://8.8.8.8/",
        "https://[2606:4700::1111]/x", "https://[64:ff9b::808:808]/", "https://xn--exmple-cua.com/", "https://a_b.c.io?x",
    ],
)  # fmt: skip
def test_public_urls_are_fine(url: str) -> None:
    target.check(url, private=False, lookup=lambda host, port: ["93.184.216.34"])


def test_a_name_that_means_nothing_yet_may_be_saved() -> None:
    def lookup(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror

    target.check("https://hooks.example.com/", private=False, lookup=lookup)


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.1", "[::1]", "[fd12::1]", "100.64.0.1", "[::ffff:127.0.0.1]"])
def test_private_networks_and_http_may_be_allowed(host: str) -> None:
    target.check(f"http://{host}:8080/", private=True)
    with pytest.raises(TargetError):
        target.check(f"https://{host}/", private=False)


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "168.63.129.16", "0.0.0.0", "224.0.0.1", "[fd00:ec2::254]", "[fe80::1]", "2130706433"]
)
def test_metadata_hosts_and_what_is_nobodys_never(host: str) -> None:
    with pytest.raises(TargetError):
        target.check(f"http://{host}/", private=True)
