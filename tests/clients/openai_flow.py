"""All that a user of the OpenAI SDK does with batches, in any major version of it: ``python openai_flow.py BASE_URL``.

Runs in a process of its own, so that it may import an SDK that is not the installed one.
"""

import io
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, ClassVar

import openai
from typing_extensions import override

LINES = 12


def line(number: int, model: str, text: str) -> dict[str, Any]:
    return {
        "custom_id": f"line-{number}",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": model, "messages": [{"role": "user", "content": text}]},
    }


def upload(client: openai.OpenAI, lines: list[dict[str, Any]], *, last_newline: bool = True) -> str:
    text = "\n".join(json.dumps(one) for one in lines) + ("\n" if last_newline else "")
    return client.files.create(file=("requests.jsonl", io.BytesIO(text.encode())), purpose="batch").id


def submit(client: openai.OpenAI, file: str, **more: Any) -> Any:
    return client.batches.create(input_file_id=file, endpoint="/v1/chat/completions", completion_window="24h", **more)


def poll(client: openai.OpenAI, batch: str, *statuses: str) -> Any:
    deadline = time.monotonic() + 60
    while (seen := client.batches.retrieve(batch)).status not in statuses:
        assert time.monotonic() < deadline, seen
        time.sleep(0.1)
    return seen


def completes(client: openai.OpenAI) -> None:
    file = upload(client, [line(n, "simulator/tiny", f"nonce:{n} Hello") for n in range(LINES)], last_newline=False)
    batch = submit(client, file, metadata={"run": "7"})
    assert (batch.object, batch.status, batch.metadata) == ("batch", "validating", {"run": "7"})
    assert batch.request_counts.total == 0 and batch.errors is None
    done = poll(client, batch.id, "completed", "failed", "expired", "cancelled")
    assert done.status == "completed", done
    assert (done.request_counts.total, done.request_counts.completed, done.request_counts.failed) == (LINES, LINES, 0)
    assert done.error_file_id is None and done.completed_at >= done.in_progress_at >= done.created_at
    answers = [json.loads(one) for one in client.files.content(done.output_file_id).text.splitlines()]
    assert [one["custom_id"] for one in answers] == [f"line-{n}" for n in range(LINES)]
    assert all(one["response"]["body"]["choices"][0]["message"]["content"] for one in answers)
    assert client.files.retrieve(done.output_file_id).purpose == "batch_output"
    assert batch.id in [one.id for one in client.batches.list(limit=1)]
    assert file in [one.id for one in client.files.list(purpose="batch")]
    assert client.files.delete(file).deleted


def fails_validation(client: openai.OpenAI) -> None:
    lines = [line(1, "simulator/tiny", "a"), line(1, "simulator/tiny", "b"), line(2, "nowhere/model", "c")]
    failed = poll(client, submit(client, upload(client, lines)).id, "failed", "completed")
    assert failed.status == "failed" and failed.output_file_id is None
    found = [(one.line, one.code, one.param) for one in failed.errors.data]
    assert found == [(2, "duplicate_custom_id", "custom_id"), (3, "model_not_found", "body.model")], found


def cancels(client: openai.OpenAI) -> None:
    slow = [line(n, "simulator/tiny", "[[delay=3]] Hello") for n in range(LINES)]
    batch = submit(client, upload(client, slow))
    poll(client, batch.id, "in_progress")
    assert client.batches.cancel(batch.id).status == "cancelling"
    done = poll(client, batch.id, "cancelled")
    assert done.request_counts.completed + done.request_counts.failed == LINES, done
    try:
        client.batches.cancel(batch.id)
    except openai.ConflictError as error:
        assert "cancelled" in str(error)
    else:
        raise AssertionError("a batch at rest was cancelled")


def errors_are_typed(client: openai.OpenAI) -> None:
    for call, kind in (
        (lambda: client.batches.retrieve("batch_none"), openai.NotFoundError),
        (lambda: client.files.retrieve("file-none"), openai.NotFoundError),
        (lambda: submit(client, "file-none"), openai.BadRequestError),
    ):
        try:
            call()
        except kind:
            continue
        raise AssertionError(kind)


class Hook(BaseHTTPRequestHandler):
    """Remembers what it was sent."""

    got: ClassVar[list[tuple[dict[str, str], str]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        self.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(200)
        self.end_headers()

    @override
    def log_message(self, format: str, *args: Any) -> None:
        return


def hears_webhooks(client: openai.OpenAI) -> None:
    """Older versions verify webhooks, and have no methods to manage them."""
    server = HTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/hook"
    wanted = {"name": "mine", "url": url, "event_types": ["batch.completed"]}
    made: Any = client.post("/webhook_endpoints", body=wanted, cast_to=object)
    batch = submit(client, upload(client, [line(1, "simulator/tiny", "Hello")]))
    deadline = time.monotonic() + 60
    while not (heard := [one for one in Hook.got if batch.id in one[1]]):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    headers, body = heard[0]
    event: Any = client.webhooks.unwrap(body, headers, secret=made["signing_secret"])
    assert (event.object, event.type, event.data.id) == ("event", "batch.completed", batch.id)
    try:
        client.webhooks.unwrap(body.replace("batch_", "botch_"), headers, secret=made["signing_secret"])
    except openai.InvalidWebhookSignatureError:
        server.shutdown()
    else:
        raise AssertionError("a forged webhook was believed")


if __name__ == "__main__":
    sdk = openai.OpenAI(base_url=sys.argv[1], api_key="unused")
    for step in (completes, fails_validation, cancels, errors_are_typed, hears_webhooks):
        step(sdk)
    sys.stdout.write(f"openai {openai.__version__}: all passed\n")
