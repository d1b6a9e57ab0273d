"""Where a webhook may go. A URL is judged when it is saved and when it is sent to, by every address of its host.

The address that was judged is the one that is dialled: aiohttp asks our resolver, and our sockets look once more.
"""

import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from worker.webhooks import addresses

LONGEST_URL = 2_048
SERVICE_PORTS = frozenset(
    int(port)
    for port in (
        "1 7 9 11 13 15 17 19 20 21 22 23 25 37 42 43 53 69 79 87 95 101 102 103 104 109 110 111 113 115 117 119 123 "
        "135 137 138 139 143 161 179 389 427 445 465 512 513 514 515 526 530 531 532 540 548 554 556 563 587 601 636 "
        "989 990 993 995 1433 1521 1719 1720 1723 2049 2181 2375 2376 2379 2380 3306 3389 3659 4045 4190 5060 5061 "
        "5432 5555 5672 5900 5984 6000 6379 6380 6432 6443 6566 6665 6666 6667 6668 6669 6679 6697 7000 7001 8086 "
        "8500 9042 9092 9200 9300 10080 10250 10255 11211 15672 26379 26257 27017 27018 27019 28017"
    ).split()
)
"""Mail, shells, databases, brokers, cluster control: a signed POST has no business there."""
LOCAL_NAMES = ("localhost", "local", "internal", "localdomain", "home.arpa", "intranet", "lan")

_URL = re.compile(
    r"(?P<scheme>https?)://(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<name>[0-9a-zA-Z._-]+))(?::(?P<port>[0-9]{1,5}))?"
    r"(?:[/?][\x21-\x22\x24-\x5b\x5d-\x7e]*)?",
    re.IGNORECASE,
)
_LABEL = re.compile(r"[0-9a-z_]([0-9a-z_-]{0,61}[0-9a-z_])?")
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")

Lookup = Callable[[str, int], Sequence[str]]


class TargetError(Exception):
    """No webhook goes there. The message says why, never what was found behind the name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A URL whose form is harmless. ``address`` if its host is one."""

    host: str
    port: int
    address: addresses.Address | None


def parse(url: str, *, private: bool) -> Target:
    """What can be said without asking anybody. ``private`` allows http and private networks. Raises TargetError."""
    found = _URL.fullmatch(url) if len(url) <= LONGEST_URL else None
    if found is None:
        raise TargetError(
            f"a webhook URL is https://host[:port][/path], at most {LONGEST_URL} printable ASCII characters, "
            "without user name and fragment"
        )
    secure = found["scheme"].lower() == "https"
    if not secure and not private:
        raise TargetError("a webhook URL begins with https:// (http needs GRISTMILL_WEBHOOK_ALLOW_PRIVATE=1)")
    port = int(found["port"] or (443 if secure else 80))
    if port in SERVICE_PORTS or not 0 < port < 65_536:
        raise TargetError(f"port {port} belongs to another kind of service")
    address = _literal(found)
    if address is not None and not addresses.is_allowed(address, private=private):
        raise TargetError(_refusal())
    host = found["six"] or found["name"].lower()
    if address is None:
        _check_name(host, private)
    return Target(host=host, port=port, address=address)


def receiver(url: str) -> str:
    """Host and port as the URL writes them."""
    return urlsplit(url).netloc.lower()


def check(url: str, *, private: bool, lookup: Lookup | None = None) -> None:
    """``parse``, and judge what its name means now; a name that means nothing yet is judged when it is sent to."""
    target = parse(url, private=private)
    if target.address is None:
        try:
            found = (lookup or look_up)(target.host, target.port)
        except OSError:
            return
        judge(found, private=private)


def judge(found: Sequence[str], *, private: bool) -> Sequence[str]:
    """The same addresses. One that is not allowed refuses them all. Raises TargetError."""
    for text in found:
        try:
            allowed = addresses.is_allowed(ipaddress.ip_address(text), private=private)
        except ValueError:
            allowed = False  # an address with a zone: link-local
        if not allowed:
            raise TargetError(_refusal())
    return found


def look_up(host: str, port: int) -> Sequence[str]:
    """Every address of a host name. Raises OSError."""
    answers: list[Any] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(answer[4][0] for answer in answers))


def _literal(found: re.Match[str]) -> addresses.Address | None:
    name = found["name"]
    try:
        if name is None:
            return ipaddress.IPv6Address(found["six"])
        if not _NUMBER.fullmatch(name.rstrip(".").rpartition(".")[2].lower()):
            return None
        return ipaddress.IPv4Address(name)
    except ValueError:
        raise TargetError("the host looks like an IP address in an unusual form: write it as 192.0.2.1") from None


def _check_name(host: str, private: bool) -> None:
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise TargetError("the host of a webhook URL is not a host name")
    if not private and any(host == name or host.endswith("." + name) for name in LOCAL_NAMES):
        raise TargetError(_refusal())


def _refusal() -> str:
    return "its host is not a public address (private networks need GRISTMILL_WEBHOOK_ALLOW_PRIVATE=1)"
