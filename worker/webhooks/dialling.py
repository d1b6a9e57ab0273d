"""How a webhook's receiver is dialled: at the addresses that were judged, and at no others."""

import asyncio
import socket

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from typing_extensions import override

from worker.webhooks import target
from worker.webhooks.target import Lookup


def connector(*, private: bool, lookup: Lookup | None = None) -> aiohttp.TCPConnector:
    """For one session. No connection is kept: the next sending is judged anew."""

    def dial(info: aiohttp.AddrInfoType) -> socket.socket:
        target.judge([str(info[4][0])], private=private)
        return socket.socket(*info[:3])

    return aiohttp.TCPConnector(
        resolver=JudgingResolver(private=private, lookup=lookup),
        use_dns_cache=False,
        force_close=True,
        limit=0,
        socket_factory=dial,
    )


class JudgingResolver(AbstractResolver):
    """Asks once, judges every answer, and gives aiohttp just these to dial."""

    def __init__(self, *, private: bool, lookup: Lookup | None = None) -> None:
        self._private = private
        self._lookup = lookup or target.look_up

    @override
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises TargetError, and OSError if there is no such name."""
        found = target.judge(await asyncio.to_thread(self._lookup, host, port), private=self._private)
        return [_result(host, port, address) for address in found]

    @override
    async def close(self) -> None:
        """Nothing is held."""


def _result(host: str, port: int, address: str) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return ResolveResult(
        hostname=host, host=address, port=port, family=family, proto=socket.IPPROTO_TCP, flags=socket.AI_NUMERICHOST
    )
