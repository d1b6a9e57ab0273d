"""Two keys of two owners, both ways, on every route: another owner's thing is answered as one that does not exist."""

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import MagicMock

import httpx
import pytest
from sqlmodel import Session
from starlette.routing import Route

from api import app
from tests import grist, rows
from tests.api.conftest import Serve, Server
from worker import ids, output_files, tables
from worker.states import BatchStatus, Kind
from worker.store import api_keys, batches, held, webhooks
from worker.store.held import NewHeld

NOBODYS = {
    "batch_id": ids.new_batch(),
    "file_id": ids.new_file(),
    "output_id": ids.new_file(),
    "message_batch_id": ids.new_message_batch(),
    "job_id": ids.new_job(),
    "endpoint_id": ids.new_webhook_endpoint(),
    "delivery_id": ids.new_delivery(),
}
"""Of every parameter that names a thing: an id that does not exist. A new kind of thing is made in ``_things`` too."""

BODIES: dict[str, Any] = {
    "POST /v1/batches/{batch_id}": {"gristmill": {"priority": 1}},
    "POST /v1/batches/{batch_id}/extend": {"completion_window": "3d"},
    "POST /v1/webhook_endpoints/{endpoint_id}": {"name": "new"},
    "POST /v1/webhook_endpoints/{endpoint_id}/test": {"event_type": "batch.completed"},
}
"""What routes with a thing in their path need to be sent."""

LISTS = {
    "GET /v1/batches": "after",
    "GET /v1/files": "after",
    "GET /v1/jobs": "after",
    "GET /v1/messages/batches": "after_id",
    "GET /v1/webhook_endpoints": "after",
}
"""With the parameter that names where a page begins."""
SUMS = {"GET /v1/limits", "GET /v1/usage"}
OWN = {"GET /v1/webhook_secret", "POST /v1/webhook_secret/rotate"}
"""Each owner has one."""
CREATES = {
    "POST /v1/batches",
    "POST /v1/files",
    "POST /v1/jobs",
    "POST /v1/messages/batches",
    "POST /v1/chat/completions",
    "POST /v1/completions",
    "POST /v1/embeddings",
    "POST /v1/webhook_endpoints",
}
NOBODY_OWNS = {
    "GET /docs",
    "GET /docs/oauth2-redirect",
    "GET /healthz",
    "GET /openapi.json",
    "GET /readyz",
    "GET /v1/models",
    "GET /v1/models/{model:path}",
    "GET /v1/webhook_event_types",
    "POST /v1/limits/{scope:path}",
    "POST /v1/limits/{scope:path}/resume",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """Somebody with a key and one of each thing."""

    http: httpx.Client
    headers: dict[str, str]
    things: dict[str, str]

    def ask(self, route: str, id: str, **options: Any) -> httpx.Response:
        """``route`` with this id in its path."""
        method, path = route.split()
        body = BODIES.get(route, {}) if method == "POST" else None
        return self.http.request(method, re.sub(r"\{\w+\}", id, path), json=body, headers=self.headers, **options)


def routes(router: Any) -> Iterator[str]:
    """Of the application, as ``METHOD /path``, those of the routers in it included."""
    for route in router.routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from routes(inner)
        else:
            assert isinstance(route, Route), f"{route} is of a kind that is not looked into"
            yield from (f"{method} {route.path}" for method in (route.methods or set()) - {"HEAD"})


def of_things() -> list[str]:
    return [route for route in ROUTES if "{" in route and route not in NOBODY_OWNS]


def parameter(route: str) -> str:
    """What is named there; two kinds of batches have one word."""
    [name] = re.findall(r"\{(\w+)\}", route)
    return f"message_{name}" if "/messages/" in route else str(name)


def plain(answer: httpx.Response, id: str) -> str:
    """Its bytes, but for the id that was asked for and that of the request."""
    return re.sub("req_[0-9a-f]{32}", "REQUEST", answer.text).replace(id, "ID")


@pytest.fixture
def owners(serve: Serve) -> tuple[Owner, Owner]:
    server = serve()
    ann, bob = _owner(server, "ann"), _owner(server, "bob")
    return ann, bob


def _owner(server: Server, name: str) -> Owner:
    key, secret = server.database.write(lambda session: api_keys.create(session, name, name))
    things = server.database.write(lambda session: _things(session, name, key.id))
    return Owner(http=server.http, headers={"authorization": f"Bearer {secret}"}, things=things)


def _things(session: Session, owner: str, key: str) -> dict[str, str]:
    batch = rows.begin(session, rows.add_batch(session, owner=owner))
    rows.add_result(session, batch, 1)
    rows.end(session, batch, BatchStatus.COMPLETED)
    endpoint = webhooks.create(session, owner, name="n", url="https://192.0.2.1/", event_types=["batch.completed"])
    event = tables.Event(
        id=ids.new_event(), owner=owner, batch=batch.number or 0, generation=1, type="batch.completed", created_at=1.0
    )
    delivery = tables.Delivery(
        id=ids.new_delivery(), owner=owner, event=event.id, endpoint=endpoint.id, created_at=1.0, due_at=1.0
    )
    session.add_all([event, delivery])
    messages = dataclasses.replace(
        rows.new_batch(rows.add_file(session, owner=owner), owner=owner), kind=Kind.MESSAGES, invalid_lines="report"
    )
    message_batch, _ = batches.create(session, messages)
    [job] = held.create(session, [_new_job(owner, key)])
    return {
        "batch_id": batch.id,
        "file_id": batch.input_file_id,
        "output_id": output_files.file_id(batch, "output"),
        "message_batch_id": message_batch.id,
        "job_id": job.id,
        "endpoint_id": endpoint.id,
        "delivery_id": delivery.id,
    }


def _new_job(owner: str, key: str) -> NewHeld:
    return NewHeld(
        owner=owner,
        api_key=key,
        url="/v1/chat/completions",
        body=b"{}",
        job=grist.new_job(1),
        prices=(1, 2),
        fingerprint="same",
        window="none",
        window_seconds=None,
        metadata={},
    )


ROUTES = sorted(routes(app.create_app(MagicMock())))


def test_every_route_has_a_case() -> None:
    known = LISTS.keys() | SUMS | OWN | CREATES | NOBODY_OWNS
    assert [route for route in ROUTES if "{" not in route and route not in known] == []
    assert [route for route in of_things() if parameter(route) not in NOBODYS] == []
    assert sorted((known | BODIES.keys()) - set(ROUTES)) == []


@pytest.mark.parametrize("route", of_things())
def test_another_owners_thing_does_not_exist(owners: tuple[Owner, Owner], route: str) -> None:
    names = [parameter(route)] + (["output_id"] if parameter(route) == "file_id" else [])
    for one, other in (owners, owners[::-1]):
        for name in names:
            theirs, nobodys = other.ask(route, one.things[name]), other.ask(route, NOBODYS[name])
            assert theirs.status_code == nobodys.status_code == 404
            assert plain(theirs, one.things[name]) == plain(nobodys, NOBODYS[name])
    for one in owners:
        assert one.ask(route, one.things[names[0]]).status_code != 404


@pytest.mark.parametrize("route", sorted(LISTS))
def test_lists_hold_ones_own_things_only(owners: tuple[Owner, Owner], route: str) -> None:
    for one, other in (owners, owners[::-1]):
        shown = one.ask(route, "")
        assert shown.status_code == 200 and shown.json()["data"]
        assert any(id in shown.text for id in one.things.values())
        assert not any(id in shown.text for id in other.things.values())
        for name, id in other.things.items():
            theirs, nobodys = (one.ask(route, "", params={LISTS[route]: x}) for x in (id, NOBODYS[name]))
            assert theirs.status_code == nobodys.status_code == 400
            assert plain(theirs, id) == plain(nobodys, NOBODYS[name])


def test_sums_and_secrets_are_ones_own(owners: tuple[Owner, Owner]) -> None:
    ann, bob = owners
    for by in ("day", "model", "provider", "batch", "key"):
        answer = ann.ask("GET /v1/usage", "", params={"by": by})
        assert answer.status_code == 200 and not any(id in answer.text for id in bob.things.values())
    secrets = {one.ask(route, "").json()["signing_secret"] for one in owners for route in sorted(OWN)}
    assert len(secrets) == 4


def test_a_batch_cannot_be_made_of_another_owners_file(owners: tuple[Owner, Owner]) -> None:
    ann, bob = owners
    body = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}

    def create(file: str) -> httpx.Response:
        return bob.http.post("/v1/batches", json={**body, "input_file_id": file}, headers=bob.headers)

    for name in ("file_id", "output_id"):
        theirs, nobodys = create(ann.things[name]), create(NOBODYS[name])
        assert theirs.status_code == nobodys.status_code == 400
        assert plain(theirs, ann.things[name]) == plain(nobodys, NOBODYS[name])
    assert create(bob.things["file_id"]).status_code == 200


def test_one_idempotency_key_of_two_owners_is_two(owners: tuple[Owner, Owner]) -> None:
    body = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}
    made = [
        one.http.post(
            "/v1/batches",
            json={**body, "input_file_id": one.things["file_id"]},
            headers={**one.headers, "idempotency-key": "same"},
        )
        for one in owners
    ]
    assert [answer.status_code for answer in made] == [200, 200]
    assert made[0].json()["id"] != made[1].json()["id"]


def test_two_keys_of_one_owner_see_the_same(serve: Serve) -> None:
    server = serve()
    ann = _owner(server, "ann")
    second = server.database.write(lambda session: api_keys.create(session, "laptop", "ann"))[1]
    twin = Owner(http=ann.http, headers={"x-api-key": second}, things=ann.things)
    for route in sorted(LISTS):
        assert twin.ask(route, "").json() == ann.ask(route, "").json()
    assert twin.ask("GET /v1/batches/{batch_id}", ann.things["batch_id"]).status_code == 200


def test_only_this_machines_user_sees_all_owners_usage(serve: Serve) -> None:
    server = serve(local_token="of-this-machine")
    ann = _owner(server, "ann")
    number = grist.add(server.database, 1, owner="ann")
    claim = grist.Worker(server.database).begin(grist.slices_of(server.database, number)[0].id)
    grist.Worker(server.database).record(grist.end(claim, claim.jobs[0]))
    everything = {"by": "owner", "all_owners": True}
    refused = ann.ask("GET /v1/usage", "", params=everything)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "not_allowed")
    local = Owner(http=ann.http, headers={"x-api-key": "of-this-machine"}, things={})
    assert [row["key"] for row in local.ask("GET /v1/usage", "", params=everything).json()["data"]] == ["ann"]
    assert local.ask("GET /v1/usage", "").json()["data"] == []
