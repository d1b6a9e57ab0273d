"""Webhook endpoints through the unmodified OpenAI SDK."""

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import openai
import pytest
from sqlmodel import Session, select

from tests import rows
from tests.api.conftest import Serve, Server
from tests.fakes.receiver import Receiver
from worker.states import BatchStatus
from worker.store import batches, deliveries, endings, fan_out, webhooks
from worker.tables import Idempotency
from worker.webhooks import sender


@pytest.fixture
def server(serve: Serve) -> Server:
    return serve(webhook_private=True)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.down()


def test_the_sdk_creates_changes_rotates_and_deletes(server: Server) -> None:
    sdk = server.sdk.webhooks
    made = sdk.create(name="mine", url="http://127.0.0.1:9999/a", event_types=["batch.completed"])
    assert made.signing_secret.startswith("whsec_")
    shown = sdk.retrieve(made.id)
    assert shown.url == made.url and "signing_secret" not in shown.model_dump()
    assert sdk.update(made.id, name="other").name == "other"
    assert [row.id for row in sdk.list()] == [made.id]
    assert sdk.rotate_secret(made.id).signing_secret != made.signing_secret
    assert "batch.failed" in sdk.event_types.list().data
    assert sdk.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        sdk.retrieve(made.id)


def test_the_same_create_is_one_endpoint_and_its_secret_is_stored_once(server: Server) -> None:
    body = {"name": "mine", "url": "http://127.0.0.1:9999/a", "event_types": ["batch.completed"]}
    headers = {"Idempotency-Key": "made-once"}
    first, second = (server.http.post("/v1/webhook_endpoints", json=body, headers=headers) for _ in range(2))
    assert (first.status_code, second.status_code) == (200, 200)
    assert second.json() == first.json() and second.headers["idempotent-replayed"] == "true"
    assert len(list(server.sdk.webhooks.list())) == 1
    other = server.http.post("/v1/webhook_endpoints", json={**body, "name": "other"}, headers=headers)
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
    with server.database.read() as session:
        [stored] = session.exec(select(Idempotency)).all()
    assert first.json()["signing_secret"].encode() not in stored.answer
    server.sdk.webhooks.delete(first.json()["id"])
    assert server.http.post("/v1/webhook_endpoints", json=body, headers=headers).status_code == 404


def test_a_list_is_paged(server: Server) -> None:
    sdk = server.sdk.webhooks
    made = [sdk.create(name=str(n), url="http://127.0.0.1:9999/", event_types=["batch.failed"]).id for n in range(5)]
    assert [row.id for row in sdk.list(limit=2)] == made[::-1]


def test_a_test_is_signed_with_both_secrets_during_a_rotation(server: Server, receiver: Receiver) -> None:
    sdk = server.sdk.webhooks
    old = sdk.create(name="n", url=receiver.url, event_types=["batch.completed"])
    new = sdk.rotate_secret(old.id, keep_old_secret_active_for_24_hours=True)
    assert sdk.test(old.id, event_type="batch.expired").status_code == 200
    [(headers, body)] = receiver.got
    for secret in (old.signing_secret, new.signing_secret):
        assert sdk.unwrap(body, headers, secret=secret).type == "batch.expired"


def test_private_urls_are_refused_unless_allowed(serve: Serve) -> None:
    sdk = serve().sdk.webhooks
    for url in ("http://example.com/", "https://127.0.0.1/", "https://localhost/", "https://169.254.169.254/"):
        with pytest.raises(openai.BadRequestError, match="url"):
            sdk.create(name="n", url=url, event_types=["batch.completed"])


def test_another_owner_sees_nothing(server: Server) -> None:
    theirs = server.database.write(
        lambda session: webhooks.create(session, "another", name="n", url="http://127.0.0.1/", event_types=[])
    )
    path = f"/v1/webhook_endpoints/{theirs.id}"
    assert server.http.get("/v1/webhook_endpoints").json()["data"] == []
    assert server.http.get(path).status_code == server.http.delete(path).status_code == 404
    assert server.http.get(f"{path}/deliveries").status_code == 404
    for below, body in (("", {"name": "x"}), ("/rotate_secret", {}), ("/test", {"event_type": "batch.failed"})):
        assert server.http.post(path + below, json=body).status_code == 404


def test_deliveries_are_visible_and_can_be_replayed(server: Server) -> None:
    made = server.sdk.webhooks.create(name="n", url="http://127.0.0.1:9999/", event_types=["batch.completed"])

    def finish(owner: str) -> None:
        def change(session: Session) -> None:
            batch = rows.end(session, rows.add_batch(session, owner=owner), BatchStatus.COMPLETED)
            endings.note_event(session, batch, batch.created_at + 2)

        server.database.write(change)

    finish("local")
    server.database.write(fan_out.fan_out)
    [delivery] = server.http.get(f"/v1/webhook_endpoints/{made.id}/deliveries").json()["data"]
    assert delivery["state"] == "pending" and delivery["attempts"] == []
    answer = server.http.post(f"/v1/webhook_deliveries/{delivery['id']}/replay")
    assert answer.json()["id"] == delivery["id"]
    assert server.http.post("/v1/webhook_deliveries/wh_x/replay").status_code == 404


def test_a_batch_names_its_own_receiver_and_the_sdk_verifies_it(server: Server, receiver: Receiver) -> None:
    secret = server.http.get("/v1/webhook_secret").json()["signing_secret"]
    batch = create_batch(server, webhook_url=receiver.url, webhook_events=["batch.completed", "batch.failed"])
    shown = batch["gristmill"]["webhook"]
    assert (shown["url"], shown["events"]) == (receiver.url, ["batch.completed", "batch.failed"])
    assert server.http.get(f"/v1/batches/{batch['id']}").json()["gristmill"]["webhook"] == shown
    assert server.http.get("/v1/webhook_endpoints").json()["data"] == []
    end(server, batch["id"])
    deliver(server)
    [(headers, body)] = receiver.got
    event = server.sdk.webhooks.unwrap(body, headers, secret=secret)
    assert isinstance(event, openai.types.webhooks.BatchCompletedWebhookEvent) and event.data.id == batch["id"]
    [delivery] = server.http.get(
        f"/v1/webhook_endpoints/{shown['endpoint_id']}/deliveries", params={"batch": batch["id"]}
    ).json()["data"]
    assert (delivery["type"], delivery["batch"], delivery["state"]) == ("batch.completed", batch["id"], "delivered")
    assert [attempt["status_code"] for attempt in delivery["attempts"]] == [200]
    server.http.post(f"/v1/webhook_deliveries/{delivery['id']}/replay")
    deliver(server)
    assert receiver.ids == [delivery["id"]] * 2


def test_the_owners_secret_is_rotated_as_an_endpoints(server: Server, receiver: Receiver) -> None:
    old = server.http.get("/v1/webhook_secret").json()
    assert server.http.get("/v1/webhook_secret").json() == old
    kept = {"keep_old_secret_active_for_24_hours": True}
    new = server.http.post("/v1/webhook_secret/rotate", json=kept).json()
    batch = create_batch(server, webhook_url=receiver.url)
    end(server, batch["id"])
    deliver(server)
    [(headers, body)] = receiver.got
    for secret in (old["signing_secret"], new["signing_secret"]):
        assert server.sdk.webhooks.unwrap(body, headers, secret=secret).type == "batch.completed"
    endpoint = batch["gristmill"]["webhook"]["endpoint_id"]
    refused = server.http.post(f"/v1/webhook_endpoints/{endpoint}/rotate_secret", json={})
    assert refused.status_code == 400 and refused.json()["error"]["code"] == "secret_of_owner"


def test_batches_of_one_url_share_an_endpoint(server: Server) -> None:
    made = [create_batch(server, webhook_url="http://127.0.0.1:9999/a")["gristmill"]["webhook"] for _ in range(2)]
    assert made[0] == made[1]
    assert create_batch(server)["gristmill"]["webhook"] is None
    other = create_batch(server, webhook_url="http://127.0.0.1:9999/b")["gristmill"]["webhook"]
    assert other["endpoint_id"] != made[0]["endpoint_id"]


def test_a_batchs_url_is_judged_when_the_batch_is_made(serve: Serve) -> None:
    server = serve()
    for url in ("http://example.com/", "https://127.0.0.1/", "https://169.254.169.254/", "https://user@example.com/"):
        refused = post_batch(server, webhook_url=url)
        assert refused.status_code == 400
        assert (refused.json()["error"]["param"], refused.json()["error"]["code"]) == (
            "gristmill.webhook_url",
            "invalid_url",
        )
    refused = post_batch(server, webhook_url="https://example.com/", webhook_events=["batch.nothing"])
    assert refused.status_code == 400 and "webhook_events" in refused.json()["error"]["param"]
    refused = post_batch(server, webhook_events=["batch.failed"])
    assert refused.status_code == 400 and "needs a webhook_url" in refused.json()["error"]["message"]


def test_a_replay_to_a_disabled_endpoint_is_refused_until_it_is_updated(server: Server, receiver: Receiver) -> None:
    receiver.answers = [(410, {}, b""), (200, {}, b"")]
    made = server.sdk.webhooks.create(name="n", url=receiver.url, event_types=["batch.completed"])
    end(server, create_batch(server)["id"])
    deliver(server)
    [delivery] = server.http.get(f"/v1/webhook_endpoints/{made.id}/deliveries").json()["data"]
    path = f"/v1/webhook_deliveries/{delivery['id']}/replay"
    refused = server.http.post(path)
    assert refused.status_code == 400 and refused.json()["error"]["code"] == "endpoint_disabled"
    server.sdk.webhooks.update(made.id, name="again")
    assert server.http.post(path).json()["state"] == "pending"
    deliver(server)
    assert receiver.ids == [delivery["id"]] * 2


def post_batch(server: Server, **options: object) -> httpx.Response:
    file = server.sdk.files.create(file=("in.jsonl", b"{}"), purpose="batch")
    body = {"input_file_id": file.id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    return server.http.post("/v1/batches", json={**body, "gristmill": options})


def create_batch(server: Server, **options: object) -> dict[str, Any]:
    answer = post_batch(server, **options)
    assert answer.status_code == 200, answer.text
    created: dict[str, Any] = answer.json()
    return created


def end(server: Server, id: str) -> None:
    def change(session: Session) -> None:
        batch = batches.lock(session, "local", id)
        assert batch is not None
        rows.end(session, batch)
        endings.note_event(session, batch, batch.created_at + 2)

    server.database.write(change)


def deliver(server: Server) -> None:
    """What is due now, each once."""
    server.database.write(fan_out.fan_out)
    with server.database.read() as session:
        waiting = deliveries.due_receivers(session, [], 100)
    for receiver in waiting:
        message = server.database.write(partial(deliveries.claim, receiver=receiver, lease_seconds=60))
        if message is not None:
            answer = asyncio.run(sender.send(message, private=True))
            server.database.write(partial(deliveries.record, id=message.id, answer=answer, scale=1.0))
