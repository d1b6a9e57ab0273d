"""Who is asking, and with what to answer."""

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from api.services import Services


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """Everything that a query touches belongs to this owner."""

    owner: str
    api_key: str | None = None
    """Id of the API key that was shown; None: this machine's own user, without a key."""


def services(request: Request) -> Services:
    return cast(Services, request.app.state.services)


def caller() -> Caller:
    """Without API keys there is one owner, and the guard lets only this machine in."""
    return Caller(owner="local")


ServicesDep = Annotated[Services, Depends(services)]
CallerDep = Annotated[Caller, Depends(caller)]
