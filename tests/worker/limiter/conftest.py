from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import fakeredis
import pytest
from redis.asyncio import Redis

Connect = Callable[[], AbstractAsyncContextManager["Redis"]]


@pytest.fixture(params=["valkey", "fakeredis"])
def connect(request: pytest.FixtureRequest) -> Connect:
    """Opens clients of one empty server, real or not."""
    if request.param == "valkey":
        url = request.getfixturevalue("valkey")
        return lambda: _opened(Redis.from_url(url))
    server = fakeredis.FakeServer()
    return lambda: _opened(fakeredis.FakeAsyncRedis(server=server))


@asynccontextmanager
async def _opened(client: "Redis") -> AsyncIterator["Redis"]:
    async with client:
        yield client
