"""Who gets in, from the first API key on."""

import httpx
import openai
import pytest

from api import keyring
from tests.api.conftest import Serve, Server
from worker import config
from worker.database import Database
from worker.routes import Routes
from worker.settings import Settings
from worker.store import api_keys
from worker.store.api_keys import Rules
from worker.tables import API_KEY

TOKEN = "of-this-machine"


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(keyring, "STALE_SECONDS", 0.0)


@pytest.fixture
def server(serve: Serve) -> Server:
    return serve(local_token=TOKEN)


def make(database: Database, name: str = "ann", **rules: float) -> str:
    return database.write(lambda session: api_keys.create(session, name, name, **rules))[1]  # type: ignore[arg-type]


def revoke(database: Database, name: str) -> None:
    database.write(lambda session: api_keys.revoke(session, name))


def get(server: Server, path: str = "/v1/batches", **headers: str) -> httpx.Response:
    return server.http.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})


def error(answer: httpx.Response) -> tuple[int, str | None]:
    return answer.status_code, answer.json()["error"]["code"]


def test_until_there_is_a_key_none_is_looked_at(server: Server) -> None:
    assert get(server).status_code == get(server, authorization="Bearer unused").status_code == 200
    make(server.database)
    assert error(get(server)) == (401, None)
    assert error(get(server, authorization="Bearer unused")) == (401, "invalid_api_key")


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "BEARER   {}"])
def test_a_key_gets_in_as_openai_and_anthropic_send_it(server: Server, form: str) -> None:
    secret = make(server.database)
    assert get(server, authorization=form.format(secret)).status_code == 200
    assert get(server, x_api_key=secret).status_code == 200


@pytest.mark.parametrize("shown", ["", "Bearer", "Basic YTpi", "{}", "Bearer {}x", "Bearer gm-", "Bearer \xe9"])
def test_nothing_else_gets_in(server: Server, shown: str) -> None:
    secret = make(server.database)
    answer = server.http.get("/v1/batches", headers={b"authorization": shown.format(secret).encode("latin-1")})
    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert answer.headers["www-authenticate"] == "Bearer"
    assert secret not in answer.text


def test_revoked_and_expired_keys_say_so(server: Server) -> None:
    secret = make(server.database)
    late = make(server.database, "late", expires_at=1.0)
    revoke(server.database, "ann")
    for shown, word in ((secret, "revoked"), (late, "expired")):
        answer = get(server, x_api_key=shown)
        assert error(answer) == (401, "invalid_api_key")
        assert word in answer.json()["error"]["message"]


def test_a_server_whose_last_key_is_revoked_lets_nobody_in(server: Server) -> None:
    make(server.database)
    revoke(server.database, "ann")
    assert get(server).status_code == 401
    assert get(server, x_api_key=TOKEN).status_code == 200


def test_health_and_description_are_open(server: Server) -> None:
    make(server.database)
    for path in ("/healthz", "/readyz", "/docs", "/openapi.json"):
        assert get(server, path, host="mill.example").status_code in (200, 503)
    for path in ("/nowhere", "/v1/webhook_event_types", "/v1/models", "/healthz/"):
        assert get(server, path).status_code == 401


def test_with_keys_any_host_name_and_origin_is_fine_but_the_body_is_json(server: Server) -> None:
    secret = make(server.database)
    assert get(server, host="mill.example", origin="https://other.example", x_api_key=secret).status_code == 200
    headers = {"x-api-key": secret, "content-type": "text/plain"}
    assert server.http.post("/v1/batches", content="{}", headers=headers).status_code == 415


def test_this_machines_token_is_the_local_owner(server: Server) -> None:
    secret = make(server.database)
    own = {"authorization": f"Bearer {TOKEN}"}
    body = {"name": "n", "url": "https://example.com/", "event_types": ["batch.completed"]}
    made = server.http.post("/v1/webhook_endpoints", json=body, headers=own).json()
    assert server.http.get(f"/v1/webhook_endpoints/{made['id']}", headers=own).status_code == 200
    assert get(server, f"/v1/webhook_endpoints/{made['id']}", x_api_key=secret).status_code == 404


def test_the_openai_sdk_raises_its_own_error(server: Server) -> None:
    secret = make(server.database)
    with pytest.raises(openai.AuthenticationError):
        server.sdk.batches.list()
    assert server.sdk.with_options(api_key=secret).batches.list().data == []


def test_a_use_is_noted(server: Server) -> None:
    get(server, x_api_key=make(server.database))
    with server.database.read() as session:
        assert session.connection().execute(API_KEY.select()).one().last_used_at is not None


def test_a_key_is_looked_up_once_in_two_seconds(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring, "FRESH_SECONDS", 60.0)
    secret = make(server.database)
    assert get(server, x_api_key=secret).status_code == 200
    revoke(server.database, "ann")
    assert get(server, x_api_key=secret).status_code == 200


def test_models_that_a_key_may_not_use_are_not_there(serve: Serve) -> None:
    lab = config.parse("providers: {lab: {kind: openai_compatible, base_url: 'http://lab:1/v1'}}")
    server = serve(routes=Routes(lab, Settings()))
    rules: Rules = {"models": ["openai/*"]}
    secret = server.database.write(lambda session: api_keys.create(session, "ann", "ann", **rules))[1]
    assert error(get(server, "/v1/models/lab/llama", x_api_key=secret)) == (404, "model_not_allowed")
