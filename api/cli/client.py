"""The HTTP API of a server, as far as the command line needs it."""

import json
import ssl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from api import limit_schemas, schemas, webhook_schemas
from api.cli import faults

TIMEOUT = httpx.Timeout(60.0, connect=5.0)
UPLOAD_TIMEOUT = httpx.Timeout(600.0, connect=5.0)
GENERATION_TIMEOUT = httpx.Timeout(600.0, connect=5.0)
"""To reset a million lines takes a minute."""

_NO_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""To read the certificates of all authorities takes 20 CPU-ms, and plain HTTP needs none."""


class Client:
    """Raises ApiFault for what the server refuses and ServerGone when it does not answer."""

    def __init__(self, url: str, *, key: str | None = None) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        is_local = _is_loopback(self.url)
        self._http = httpx.Client(
            base_url=self.url,
            timeout=TIMEOUT,
            headers={} if key is None else {"authorization": f"Bearer {key}"},
            trust_env=not is_local,  # a proxy of the environment must not see what is meant for this machine
            verify=_NO_AUTHORITIES if is_local and self.url.startswith("http:") else True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def is_alive(self) -> bool:
        return self._status("/healthz") == 200

    def is_ready(self) -> bool:
        return self._status("/readyz") == 200

    def upload(self, path: Path) -> schemas.File:
        with path.open("rb") as file:
            parts = {"purpose": (None, "batch"), "file": (path.name, file, "application/jsonl")}
            return schemas.File.model_validate(self._send("POST", "/v1/files", files=parts, timeout=UPLOAD_TIMEOUT))

    def delete_file(self, id: str) -> None:
        self._send("DELETE", f"/v1/files/{id}")

    def create(
        self,
        *,
        input_file_id: str,
        endpoint: str,
        window: str = "none",
        metadata: Mapping[str, str] | None = None,
        options: schemas.BatchOptions,
    ) -> schemas.Batch:
        body = {
            "input_file_id": input_file_id,
            "endpoint": endpoint,
            "completion_window": window,
            "metadata": dict(metadata or {}),
            "gristmill": options.model_dump(exclude_unset=True),
        }
        return self._batch("POST", "/v1/batches", json=body)

    def batch(self, id: str) -> schemas.Batch:
        return self._batch("GET", f"/v1/batches/{id}")

    def page(
        self, *, limit: int = 20, after: str | None = None, identity: str | None = None, kind: str | None = None
    ) -> list[schemas.Batch]:
        """Newest first. ``kind`` "messages" means Anthropic's batches."""
        wanted = {"limit": limit, "after": after, "identity": identity, "kind": kind}
        params = {name: value for name, value in wanted.items() if value is not None}
        return schemas.BatchList.model_validate(self._send("GET", "/v1/batches", params=params)).data

    def find(self, identity: str) -> schemas.Batch | None:
        """The newest batch of that identity."""
        return next(iter(self.page(limit=1, identity=identity)), None)

    def cancel(self, id: str) -> schemas.Batch:
        return self._batch("POST", f"/v1/batches/{id}/cancel", json={})

    def pause(self, id: str, *, timeout: float = 60.0) -> schemas.Batch:
        return self._batch("POST", f"/v1/batches/{id}/pause", json={}, timeout=timeout)

    def resume(self, id: str, **limits: Any) -> schemas.Batch:
        """Limits that are not named stay."""
        timeout = GENERATION_TIMEOUT if limits.get("retry_failed") else TIMEOUT
        return self._batch("POST", f"/v1/batches/{id}/resume", json=limits, timeout=timeout)

    def retry(self, id: str, **limits: Any) -> schemas.Batch:
        """Limits that are not named stay."""
        return self._batch("POST", f"/v1/batches/{id}/retry", json=limits, timeout=GENERATION_TIMEOUT)

    def extend(self, id: str, window: str) -> schemas.Batch:
        """``window`` counts from now."""
        return self._batch("POST", f"/v1/batches/{id}/extend", json={"completion_window": window})

    def delete(self, id: str, *, files: bool) -> None:
        """A batch at rest; with ``files`` its input file too."""
        self._send("DELETE", f"/v1/batches/{id}", params={"files": str(files).lower()})

    def line_errors(self, id: str, *, limit: int) -> list[schemas.LineError]:
        answer = self._send("GET", f"/v1/batches/{id}/errors", params={"limit": limit})
        return schemas.LineErrors.model_validate(answer).data

    def jobs(self, id: str, *, status: str | None, after: int) -> Iterator[schemas.Job]:
        """In input order, a page in memory at a time."""
        params: dict[str, Any] = {} if status is None else {"status": status}
        more = True
        while more:
            answer = self._send("GET", f"/v1/batches/{id}/jobs", params={**params, "after": after})
            page = schemas.JobList.model_validate(answer)
            yield from page.data
            more, after = page.has_more, page.last_line or after

    def usage(self, **query: str) -> list[schemas.UsageSum]:
        return schemas.UsageList.model_validate(self._send("GET", "/v1/usage", params=query)).data

    def limits(self) -> limit_schemas.ScopeList:
        return limit_schemas.ScopeList.model_validate(self._send("GET", "/v1/limits"))

    def resume_scope(self, scope: str) -> limit_schemas.Scope:
        path = f"/v1/limits/{quote(scope)}/resume"
        return limit_schemas.Scope.model_validate(self._send("POST", path, json={}))

    def set_share(self, scope: str, share: float | None) -> limit_schemas.Scope:
        """None: as configured."""
        path = f"/v1/limits/{quote(scope)}"
        return limit_schemas.Scope.model_validate(self._send("POST", path, json={"share": share}))

    def webhook_secret(self, *, rotate: bool = False) -> webhook_schemas.Secret:
        """The owner's; a rotated one leaves the old one valid for a day."""
        if not rotate:
            return webhook_schemas.Secret.model_validate(self._send("GET", "/v1/webhook_secret"))
        kept = {"keep_old_secret_active_for_24_hours": True}
        return webhook_schemas.Secret.model_validate(self._send("POST", "/v1/webhook_secret/rotate", json=kept))

    @contextmanager
    def content(self, file_id: str) -> Iterator[Iterator[bytes]]:
        """Whole lines in input order; no lines if there is no such file."""
        with (
            _explained(),
            self._http.stream("GET", f"/v1/files/{file_id}/content", params={"order": "line"}) as answer,
        ):
            if answer.status_code == 404:
                yield iter(())
                return
            if answer.is_error:
                answer.read()
            _refuse(answer)
            yield answer.iter_bytes(1 << 20)

    @contextmanager
    def rows(self, id: str) -> Iterator[Iterator[dict[str, Any]]]:
        """The batch as a table, in input order."""
        with _explained(), self._http.stream("GET", f"/v1/batches/{id}/rows") as answer:
            if answer.is_error:
                answer.read()
            _refuse(answer)
            yield (json.loads(line) for line in lines(answer.iter_bytes(1 << 16)))

    def _batch(self, method: str, path: str, **options: Any) -> schemas.Batch:
        return schemas.Batch.model_validate(self._send(method, path, **options))

    def _send(self, method: str, path: str, **options: Any) -> Any:
        with _explained():
            answer = self._http.request(method, path, **options)
            _refuse(answer)
            return answer.json()

    def _status(self, path: str) -> int | None:
        try:
            return self._http.get(path, timeout=2.0).status_code
        except httpx.HTTPError:
            return None


def lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Split at newlines only: httpx's own splitting takes other characters of a text for line ends."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole
    if rest:
        yield rest


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except httpx.HTTPError as error:
        raise faults.ServerGone(f"the server does not answer ({type(error).__name__})") from error


def _refuse(answer: httpx.Response) -> None:
    if answer.status_code == 503:
        raise faults.ServerGone("the server cannot work at the moment: " + _message(answer))
    if answer.is_error:
        raise faults.ApiFault(_message(answer), http_status=answer.status_code)


def _message(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"the server answered {answer.status_code}"


def _is_loopback(url: str) -> bool:
    return httpx.URL(url).host in ("127.0.0.1", "::1", "localhost")
