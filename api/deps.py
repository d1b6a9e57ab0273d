"""Who is asking, and with what to answer. Dependencies are coroutines: others would cost a thread each."""

from typing import Annotated, cast

from fastapi import Depends, Request

from api.keyring import Caller
from api.services import Services


async def services(request: Request) -> Services:
    return cast(Services, request.app.state.services)


async def caller(request: Request) -> Caller:
    """Whom the guard let in."""
    return cast(Caller, request.state.caller)


ServicesDep = Annotated[Services, Depends(services)]
CallerDep = Annotated[Caller, Depends(caller)]
