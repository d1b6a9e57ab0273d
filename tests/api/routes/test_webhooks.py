"""Webhook endpoints through the unmodified OpenAI SDK."""

from collections.abc import Iterator

import openai
import pytest
from sqlmodel import Session

from tests import rows
from tests.api.conftest import Serve, Server
from tests.fakes.receiver import Receiver
from worker.states import BatchStatus
from worker.store import deliveries, endings, webhooks


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
    server.database.write(deliveries.fan_out)
    [delivery] = server.http.get(f"/v1/webhook_endpoints/{made.id}/deliveries").json()["data"]
    assert delivery["state"] == "pending" and delivery["attempts"] == []
    answer = server.http.post(f"/v1/webhook_deliveries/{delivery['id']}/replay")
    assert answer.json()["id"] == delivery["id"]
    assert server.http.post("/v1/webhook_deliveries/wh_x/replay").status_code == 404
