"""The dialects: one module each, found by the name that a ProviderSpec gives."""

import functools
import importlib
import typing

from providers import answer, deployment, request, result


class Wire(typing.Protocol):
    """What a dialect's module defines."""

    def path(self, endpoint: str) -> str:
        """The path, below the base URL, that serves requests to ``endpoint``."""

    def body(self, asked: request.ProviderRequest, to: deployment.Deployment) -> bytes:
        """The bytes to send."""

    def read(
        self, got: answer.Answer, asked: request.ProviderRequest, to: deployment.Deployment
    ) -> result.ProviderResult:
        """The answer's meaning; raises ProviderError."""


@functools.cache
def get(name: str) -> Wire:
    return typing.cast(Wire, importlib.import_module(f"providers.wire.{name}"))
