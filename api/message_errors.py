"""What stands under /v1/messages says its errors as Anthropic does, whoever raised them, and names its requests."""

import json

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from providers import json_text
from providers.messages import errors

PATH = "/v1/messages"
REQUEST_ID = "request-id"


class MessageErrors:
    """Rewrites answers of 4xx and 5xx in OpenAI's shape. Stands outside of everything that may give one."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_ours = scope["type"] == "http" and f"{scope['path']}/".startswith(f"{PATH}/")
        await self.app(scope, receive, _Rewriter(send).send if is_ours else send)


class _Rewriter:
    def __init__(self, send: Send) -> None:
        self._send = send
        self._held: Message | None = None
        self._body = bytearray()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers[REQUEST_ID] = headers.get("x-request-id", "")
            if message["status"] >= 400:
                self._held = message
                return
        if self._held is None:
            await self._send(message)
            return
        self._body += message.get("body", b"")
        if not message.get("more_body"):
            await self._finish(self._held)

    async def _finish(self, start: Message) -> None:
        headers = MutableHeaders(scope=start)
        body = _said(start["status"], bytes(self._body), headers[REQUEST_ID])
        headers["content-length"] = str(len(body))
        await self._send(start)
        await self._send({"type": "http.response.body", "body": body})


def _said(status: int, body: bytes, request_id: str) -> bytes:
    """An answer without an error of ours in it (499: nobody reads it) stays as it is."""
    try:
        error = json_text.loads(body)["error"]
        said = errors.body(status, error["code"], error["message"], request_id)
    except (ValueError, KeyError, TypeError):
        return body
    return json.dumps(said).encode()
