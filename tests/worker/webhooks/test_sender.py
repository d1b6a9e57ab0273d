"""One sending to receivers that want to keep the sender busy, over real sockets."""

import asyncio
import datetime
import email.utils
import gzip
import itertools
import socket
import time

import pytest

from tests.fakes.raw_receiver import RawReceiver
from worker.webhooks import sender, signature
from worker.webhooks.sender import Answer, Message

OK = b"HTTP/1.1 200 OK\r\n"
BUFFERS = 32 << 20
"""More than the kernel takes for a peer that does not read."""


def send(url: str, *, timeout: float = 10.0) -> Answer:
    message = Message(id="wh_1", url=url, secrets=[signature.new_secret()], timestamp=1, body=b"{}")
    return asyncio.run(sender.send(message, private=True, timeout=timeout))


def test_a_receiver_that_hangs_is_given_up() -> None:
    with RawReceiver(lambda connection: waiting.hang(connection)) as waiting:
        answer = send(waiting.url, timeout=0.3)
    assert (answer.status, answer.error) == (None, "no answer within 0.3 s")


def test_a_receiver_that_drips_its_head_is_given_up() -> None:
    def drip(connection: socket.socket) -> None:
        for byte in itertools.cycle(b"X-More: 1\r\n"):
            connection.sendall(bytes([byte]))
            time.sleep(0.01)

    with RawReceiver(drip) as receiver:
        answer = send(receiver.url, timeout=0.3)
    assert answer.status is None and not answer.is_success


def test_a_status_counts_though_its_body_never_ends() -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(OK + b"content-length: 1000\r\n\r\n")
        while True:
            connection.sendall(b"x")
            time.sleep(0.01)

    with RawReceiver(drip) as receiver:
        answer = send(receiver.url, timeout=0.3)
    assert answer.is_success and 0 < len(answer.body) < 1_000


def test_of_a_gigabyte_only_the_first_bytes_are_read() -> None:
    sent = 0

    def pour(connection: socket.socket) -> None:
        nonlocal sent
        connection.sendall(OK + b"content-length: %d\r\n\r\n" % (1 << 30))
        for _ in range(1 << 14):
            sent += connection.send(b"x" * 65_536)

    with RawReceiver(pour) as receiver:
        answer = send(receiver.url)
    assert answer.is_success and answer.body == b"x" * sender.LONGEST_ANSWER
    assert sent < BUFFERS


def test_a_compressed_answer_is_not_unpacked() -> None:
    bomb = gzip.compress(bytes(10_000_000))

    def explode(connection: socket.socket) -> None:
        connection.sendall(OK + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(bomb) + bomb)

    with RawReceiver(explode) as receiver:
        assert send(receiver.url).body == bomb[: sender.LONGEST_ANSWER]


def test_a_receiver_that_hangs_up_is_a_failure() -> None:
    with RawReceiver(lambda connection: None) as receiver:
        answer = send(receiver.url)
    assert answer.status is None and "could not be reached" in str(answer.error)


@pytest.mark.parametrize("said", ["seconds", "date"])
def test_retry_after_is_heard(said: str) -> None:
    now = datetime.datetime.now(datetime.UTC)
    later = email.utils.format_datetime(now + datetime.timedelta(seconds=600), usegmt=True)
    wish = ("600" if said == "seconds" else later).encode()

    def refuse(connection: socket.socket) -> None:
        date = email.utils.format_datetime(now, usegmt=True).encode()
        head = b"HTTP/1.1 503 Busy\r\ndate: %b\r\nretry-after: %b\r\ncontent-length: 0\r\n\r\n"
        connection.sendall(head % (date, wish))

    with RawReceiver(refuse) as receiver:
        assert send(receiver.url).wait == 600.0


@pytest.mark.parametrize("secrets", [[""], ["no secret"]])
def test_what_cannot_be_signed_is_not_sent_and_its_owner_can_see_why(secrets: list[str]) -> None:
    message = Message(id="d", url="http://127.0.0.1:49999/", secrets=secrets, timestamp=1, body=b"{}")
    answer = asyncio.run(sender.send(message, private=True))
    assert (answer.status, answer.is_success) == (None, False)
    assert "signing secret cannot be read" in str(answer.error)
