import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from sqlmodel import Session

from api.cli import limits as limits_command
from tests import grist
from tests.api.conftest import Serve, Server
from tests.polling import until
from worker.catalog import ScopeLimits
from worker.config import parse
from worker.live_config import LiveConfig
from worker.routes import Routes
from worker.settings import Settings
from worker.states import Kind
from worker.store import api_keys, scope_reports, scopes
from worker.store.scope_reports import QuotaState, Report

ROUTE, SCOPE = "simulator/flour", "simulator/default/flour"
OTHER = "openai/default/gpt-4o"
TOLD = ScopeLimits(told={"requests": 600.0, "tokens_day": 9e6}, concurrency=4, share=0.8)


@pytest.fixture
def server(serve: Serve) -> Server:
    settings = Settings(simulator_url="http://127.0.0.1:1/v1")
    return serve(
        routes=Routes(parse("models: {judge: [{model: simulator/flour}, {model: simulator/bread}]}"), settings),
        limits_of=lambda scope: TOLD if scope.startswith("simulator/") else None,
        local_token="of-this-machine",
    )


def report(server: Server, scope: str = SCOPE, **facts: Any) -> None:
    quotas = {
        "requests": QuotaState(allowed=300.0, source="headers", level=2.5),
        "tokens": QuotaState(allowed=5_000.0, source="refusals", level=10.0),
    }
    values: dict[str, Any] = {"in_flight": 3, "waiting": 2, "places": 8.0, "seconds": 0.5, "rest": 0.0}
    said = Report(scope=scope, quotas=quotas, requests=40, tokens=900, **{**values, **facts})
    server.database.write(lambda session: scope_reports.store(session, "one", [said]))


def shown(server: Server, **headers: str) -> dict[str, Any]:
    answer = server.http.get("/v1/limits", headers=headers)
    assert answer.status_code == 200, answer.text
    return {scope["scope"]: scope for scope in answer.json()["data"]}


def pause(server: Server, scope: str = SCOPE) -> None:
    server.database.write(lambda session: scopes.pause(session, scope, "auth", "invalid_api_key", wait=None))


def command(server: Server, *arguments: str) -> str:
    done = CliRunner().invoke(limits_command.limits, [*arguments, "--server", server.url])
    assert done.exit_code == 0, done.output
    return done.output


def test_nothing_is_known_at_first(server: Server) -> None:
    assert server.http.get("/v1/limits").json() == {"object": "list", "data": [], "configuration": None}
    assert command(server) == "No scope was used yet.\n"


def test_a_scope_says_who_told_its_limits_and_how_it_stands(server: Server) -> None:
    report(server, rest=60.0)
    scope = shown(server)[SCOPE]
    quotas = {quota.pop("quota"): quota for quota in scope.pop("quotas")}
    assert quotas.keys() == {"requests", "tokens", "tokens_day"}
    assert quotas["requests"].pop("learned_at") > 0
    assert quotas["requests"] == {"limit": 300.0, "usable": 240.0, "per": "minute", "source": "headers", "left": 2.5}
    assert (quotas["tokens"]["source"], quotas["tokens"]["usable"]) == ("refusals", 4_000.0)
    day = {"limit": 9e6, "usable": 7.2e6, "per": "day", "source": "config", "learned_at": None, "left": None}
    assert quotas["tokens_day"] == day
    assert scope.pop("resting_until") > 0
    assert scope == {
        "object": "limit",
        "scope": SCOPE,
        "share": 0.8,
        "share_source": "config",
        "concurrency": 4,
        "places": 8.0,
        "in_flight": 3,
        "waiting": 2,
        "seconds": 0.5,
        "requests": 40,
        "tokens": 900,
        "paused": None,
        "batches": [],
        "batches_total": 0,
    }


def test_what_was_configured_lower_than_learned_counts(server: Server) -> None:
    quotas = {"requests": QuotaState(allowed=6_000.0, source="headers", level=2.5)}
    said = Report(scope=SCOPE, quotas=quotas, requests=0, tokens=0, in_flight=0, waiting=0, places=1, seconds=0, rest=0)
    server.database.write(lambda session: scope_reports.store(session, "one", [said]))
    requests = shown(server)[SCOPE]["quotas"][0]
    assert (requests["limit"], requests["source"], requests["left"]) == (600.0, "config", None)


def test_the_operator_is_told_what_is_wrong_with_the_configuration(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "gristmill.yaml"
    path.write_text("models: {}")
    live = LiveConfig(path)
    server = serve(configuration=live)
    assert server.http.get("/v1/limits").json()["configuration"] == {"path": str(path), "fault": None, "postponed": []}
    path.write_text("modles: {}")
    until(lambda: live.look() is None and live.fault)
    fault = server.http.get("/v1/limits").json()["configuration"]["fault"]
    assert "did you mean 'models'?" in fault and "did you mean 'models'?" in command(server)


def test_running_batches_are_named_at_each_scope_that_they_may_use(server: Server) -> None:
    first = grist.batch(server.database, grist.add(server.database, 1, routes=(ROUTE,))).id
    second = grist.batch(server.database, grist.add(server.database, 1, routes=("judge",), owner="ann")).id
    grist.add(server.database, 1, routes=(ROUTE,), kind=Kind.HELD)
    grist.add(server.database, 1, routes=("nowhere/flour",))
    found = shown(server)
    assert {scope: one["batches"] for scope, one in found.items()} == {
        SCOPE: [first, second],
        "simulator/default/bread": [second],
    }
    assert found[SCOPE]["batches_total"] == 2


def test_many_batches_are_counted(server: Server) -> None:
    for _ in range(22):
        grist.add(server.database, 1, routes=(ROUTE,))
    scope = shown(server)[SCOPE]
    assert (len(scope["batches"]), scope["batches_total"]) == (20, 22)


def test_a_paused_scope_is_tried_again_on_request(server: Server) -> None:
    pause(server)
    paused = shown(server)[SCOPE]["paused"]
    assert (paused["reason"], paused["detail"]) == ("auth", "invalid_api_key")
    assert paused["probe_at"] > paused["since"] + 20
    answer = server.http.post(f"/v1/limits/{SCOPE}/resume")
    assert answer.status_code == 200
    assert answer.json()["paused"]["probe_at"] <= paused["since"] + 20
    with server.database.read() as session:
        assert scopes.paused(session)[SCOPE].probe_in == 0


def test_a_share_that_is_set_wins_until_it_is_null(server: Server) -> None:
    def change(share: Any) -> httpx.Response:
        return server.http.post(f"/v1/limits/{SCOPE}", json={"share": share})

    changed = change(0.5).json()
    assert (changed["share"], changed["share_source"]) == (0.5, "set")
    assert changed["quotas"][0]["usable"] == 300.0
    assert shown(server)[SCOPE]["share"] == 0.5
    assert change(None).json()["share"] == 0.8
    assert shown(server) == {}
    refused: tuple[Any, ...] = (0, -1, 1.5, "0.5", True, [], {})
    for wrong in refused:
        assert change(wrong).status_code == 400, wrong
    assert server.http.post(f"/v1/limits/{SCOPE}", json={}).status_code == 400


def test_names_of_models_may_hold_slashes(server: Server) -> None:
    name = "simulator/default/org/model:v1"
    assert server.http.post(f"/v1/limits/{name}", json={"share": 0.5}).json()["scope"] == name
    assert server.http.post(f"/v1/limits/{name}/resume", json={}).json()["scope"] == name
    assert shown(server).keys() == {name}


def test_what_nobody_configured_is_not_found(server: Server) -> None:
    for path in ("nowhere/default/flour/resume", "nowhere/default/flour"):
        answer = server.http.post(f"/v1/limits/{path}", json={"share": 0.5} if "resume" not in path else {})
        assert answer.status_code == 404 and "<provider>/<account>/<model>" in answer.text


def test_the_holder_of_a_key_sees_what_concerns_it_and_changes_nothing(server: Server) -> None:
    def key(session: Session) -> str:
        return api_keys.create(session, "ann", "ann")[1]

    headers = {"authorization": f"Bearer {server.database.write(key)}"}
    local = {"authorization": "Bearer of-this-machine"}
    mine = grist.batch(server.database, grist.add(server.database, 1, routes=(ROUTE,), owner="ann")).id
    theirs = grist.batch(server.database, grist.add(server.database, 1, routes=("judge",), owner="bob")).id
    report(server)
    report(server, OTHER)
    pause(server, "simulator/other/flour")
    seen = server.http.get("/v1/limits", headers=headers)
    assert [scope["scope"] for scope in seen.json()["data"]] == [SCOPE]
    assert seen.json()["data"][0]["batches"] == [mine]
    assert theirs not in seen.text and "other" not in seen.text and seen.json()["configuration"] is None
    assert len(shown(server, **local)) == 4
    for path, body in ((f"{SCOPE}/resume", {}), (SCOPE, {"share": 0.5}), ("nowhere/x", {"share": 0.5})):
        refused = server.http.post(f"/v1/limits/{path}", json=body, headers=headers)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "not_allowed")
    assert server.http.post(f"/v1/limits/{SCOPE}", json={"share": 0.5}, headers=local).status_code == 200


def test_the_command_shows_a_table_and_why(server: Server) -> None:
    id = grist.batch(server.database, grist.add(server.database, 1, routes=(ROUTE,))).id
    report(server)
    pause(server)
    lines = command(server).splitlines()
    assert lines[1].split()[:5] == [SCOPE, "requests", "300/minute", "headers", "80%"]
    assert "3 of 8" in lines[1] and lines[1].endswith("paused (auth)")
    assert lines[2].split() == ["tokens", "5,000/minute", "refusals"]
    assert "auth: invalid_api_key" in lines[4] and f"gristmill limits resume {SCOPE}" in lines[4]
    assert lines[5] == f"{id}: waiting for {SCOPE}"
    assert json.loads(command(server, "--json"))["data"][0]["scope"] == SCOPE


def test_the_command_changes_shares_and_resumes(server: Server) -> None:
    pause(server)
    assert command(server, "resume", SCOPE) == f"{SCOPE} is tried again now\n"
    assert command(server, "share", SCOPE, "0.5") == f"{SCOPE}: 50% of its limits may be used\n"
    assert command(server, "share", SCOPE, "file") == f"{SCOPE}: 80% of its limits may be used\n"
    for wrong in ("0", "2", "half"):
        done = CliRunner().invoke(limits_command.limits, ["share", SCOPE, wrong, "--server", server.url])
        assert done.exit_code == 2 and "PART must be" in done.output
