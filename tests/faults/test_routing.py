"""Aliases over several deployments, in real runs: shares, takeovers, and fallbacks of each kind."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from providers.simulator.process import Process
from tests.faults.auditor import Audit
from tests.faults.rig import MOST_IN_FLIGHT, UNCOMMITTED, Mill, requests
from tests.polling import until
from tests.postgres import Postgres

MODELS = {
    "shared": [{"model": "alpha/tiny", "weight": 3}, {"model": "beta/tiny"}],
    "keys": "pool/tiny",
    "trio": {"strategy": "least_busy", "deployments": ["broken/tiny", "sluggish/tiny", "alpha/tiny"]},
    "judge": {
        "deployments": ["alpha/tiny"],
        "fallbacks": {
            "general": ["beta/tiny"],
            "context_window": ["long"],
            "content_policy": ["beta/tiny-mild"],
            "filtered_answers": True,
        },
    },
    "long": ["beta/tiny-long"],
    "dead": {"deployments": ["dead/tiny"], "fallbacks": {"general": ["long"]}},
}
DEAD = "sk-dead"
ASKED = "SELECT deployment, outcome, fallback FROM attempt WHERE job >> 32 = (SELECT number FROM batch WHERE id = ?)"


@pytest.fixture(scope="module")
def sick() -> Iterator[Process]:
    """Answers nothing but 500."""
    with Process(tokens=12) as one:
        one.control(faults={"status=500 always": 1.0})
        yield one


@pytest.fixture(scope="module")
def slow() -> Iterator[Process]:
    with Process(tokens=12, latency=1.0) as one:
        yield one


def providers(simulator: Process, sick: Process, slow: Process) -> dict[str, Any]:
    def at(one: Process, **more: Any) -> dict[str, Any]:
        return {"kind": "simulator", "base_url": one.base_url, **more}

    return {
        "alpha": at(simulator, api_key="sk-alpha", max_retries=1),
        "beta": at(simulator, api_key="sk-beta"),
        "pool": at(simulator, accounts={"a": {"api_key": "sk-alpha"}, "b": {"api_key": "sk-beta"}}),
        "dead": at(simulator, api_key=DEAD),
        "broken": at(sick),
        "sluggish": at(slow),
    }


@pytest.fixture(scope="module")
def routing_mill(
    simulator: Process, sick: Process, slow: Process, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mill]:
    home = tmp_path_factory.mktemp("routing") / "home"
    with Mill(home, simulator.base_url, providers=providers(simulator, sick, slow), models=MODELS) as mill:
        yield mill


@pytest.fixture
def mill(routing_mill: Mill, calm: Process) -> Mill:
    calm.control(keys={"sk-alpha": None, "sk-beta": None, DEAD: {"refuse": "invalid_api_key"}})
    routing_mill.await_workers()
    return routing_mill


def deployments(mill: Mill, id: str, outcome: str = "succeeded") -> Counter[str]:
    return Counter(name for name, ended, _ in mill.rows(ASKED, id) if ended == outcome)


def test_a_batch_is_shared_by_weight(mill: Mill, audit: Audit) -> None:
    lines = requests("weight", 400, model="shared")
    id = mill.submit(lines)
    mill.await_rest(id)
    assert audit(mill, id, lines).completed == 400
    assert abs(deployments(mill, id)["alpha/tiny"] - 300) <= 12


def test_two_keys_of_one_provider_share_its_load(mill: Mill, audit: Audit) -> None:
    lines = requests("keys", 300, model="pool/tiny")
    id = mill.submit(lines)
    mill.await_rest(id)
    audit(mill, id, lines)
    found = deployments(mill, id)
    assert abs(found["pool/tiny@a"] - 150) <= 15 and found.total() == 300


def test_one_broken_and_one_slow_deployment_hold_nobody_up(mill: Mill, calm: Process) -> None:
    calm.control(latency=0.02)
    lines = requests("trio", 400, model="trio")
    id = mill.submit(lines)
    mill.await_rest(id)
    assert mill.field(id, "completed") == 400
    found = deployments(mill, id)
    assert found["broken/tiny"] == 0 and found["alpha/tiny"] > found["sluggish/tiny"] > 0


FALLBACKS = [
    ("[[code=context_length_exceeded times=1]]", "context_window", "beta/tiny-long", 1),
    ("[[filter times=1]]", "content_policy", "beta/tiny-mild", 1),
    ("[[filter=finish times=1]]", "content_policy", "beta/tiny-mild", 1),
    ("[[status=500 times=2]]", "general", "beta/tiny", 2),
]


def test_each_kind_of_fallback(mill: Mill) -> None:
    falls_back_everywhere(mill, "here")


def test_each_kind_of_fallback_on_postgres(
    calm: Process, sick: Process, slow: Process, postgres: Postgres, tmp_path: Path
) -> None:
    known = providers(calm, sick, slow)
    environment = {"GRISTMILL_DATABASE_URL": postgres.create("routing")}
    with Mill(tmp_path / "home", calm.base_url, providers=known, models=MODELS, **environment) as mill:
        falls_back_everywhere(mill, "elsewhere")


def falls_back_everywhere(mill: Mill, name: str) -> None:
    lines = [
        line
        for place, (fault, *_) in enumerate(FALLBACKS)
        for line in requests(f"{name}-{place}", 5, model="judge", text=fault, first=10 * place + 1)
    ]
    lines += requests(f"{name}-calm", 5, model="judge", first=100)
    id = mill.submit(lines, allow_fallback=True)
    mill.await_rest(id)
    shown = mill.batch(id)
    assert shown["request_counts"]["completed"] == 25, mill.errors(id)
    assert (shown["request_counts"]["completed"], shown["gristmill"]["allow_fallback"]) == (25, True)
    assert [(model["model"], model["completed"]) for model in shown["gristmill"]["models"]] == [("judge", 25)]
    rows = {
        row["custom_id"]: row for row in map(json.loads, mill.client.get(f"/v1/batches/{id}/rows").text.splitlines())
    }
    jobs = {job["custom_id"]: job for job in mill.client.get(f"/v1/batches/{id}/jobs").json()["data"]}
    for place, (_, kind, served, tries) in enumerate(FALLBACKS):
        for line in (f"{name}-{place}-{10 * place + number}" for number in range(1, 6)):
            assert (rows[line]["model"], rows[line]["fallback"], rows[line]["provider"]) == ("judge", kind, "beta")
            attempts = [(one["deployment"], one["fallback"]) for one in jobs[line]["attempts"]]
            assert attempts == [("alpha/tiny", None)] * tries + [(served, kind)], line
            assert jobs[line]["attempts"][tries - 1]["outcome"] == "fell_back"
    assert {rows[f"{name}-calm-{number}"]["fallback"] for number in range(100, 105)} == {None}


def test_without_permission_no_line_leaves(mill: Mill) -> None:
    lines = [
        line
        for place, (fault, *_) in enumerate(FALLBACKS)
        for line in requests(f"no-{place}", 2, model="judge", text=fault)
    ]
    id = mill.submit(lines)
    mill.await_rest(id)
    assert mill.field(id, "failed") == 6  # an answer that a filter has cut is an answer
    assert {(name, fallback) for name, _, fallback in mill.rows(ASKED, id)} == {("alpha/tiny", None)}


def test_where_all_rest_the_alias_goes_on_and_the_model_that_was_named_waits(mill: Mill, calm: Process) -> None:
    """The first ones find out that the key is dead; no attempt of theirs is spent."""
    lines = [*requests("alias", 60, model="dead"), *requests("named", 5, model="dead/tiny")]
    id = mill.submit(lines, allow_fallback=True)
    mill.await_done(id, 60)
    mill.await_block(id, "auth")
    answered = {name for name, outcome, _ in mill.rows(ASKED, id) if outcome == "succeeded"}
    assert answered == {"beta/tiny-long"}
    assert mill.rows("SELECT count(*) FROM result JOIN batch ON number = result.batch WHERE id = ?", id) == [(60,)]
    calm.control(keys={"sk-alpha": None, "sk-beta": None, DEAD: None})
    mill.hasten_probes()
    mill.await_rest(id)
    assert deployments(mill, id) == {"beta/tiny-long": 60, "dead/tiny": 5}
    assert mill.field(id, "failed") == 0


def test_a_held_call_falls_back_too(mill: Mill) -> None:
    body = {"model": "judge", "messages": [{"role": "user", "content": "[[filter times=1]] nonce:moved-fallback"}]}
    refused = mill.client.post("/v1/chat/completions", json=body)
    assert refused.status_code == 400
    body["messages"] = [{"role": "user", "content": "[[filter times=1]] nonce:moved-allowed"}]
    answer = mill.client.post("/v1/chat/completions", json=body, headers={"x-gristmill-allow-fallback": "true"})
    assert (answer.status_code, answer.json()["model"]) == (200, "tiny-mild")


def test_a_kill_between_the_fallback_and_its_call_repeats_nothing_of_the_first_model(
    calm: Process, sick: Process, slow: Process, tmp_path: Path, audit: Audit
) -> None:
    """Their refusals are stored: only the calls of the second model were in flight."""
    models = {"judge": {"deployments": ["alpha/tiny"], "fallbacks": {"context_window": ["beta/tiny"]}}}
    lines = requests("onward", 40, model="judge", text="[[code=context_length_exceeded times=1]]")
    before = calm.stats()["keys"]["sk-alpha"]["arrived"]
    with Mill(tmp_path / "home", calm.base_url, providers=providers(calm, sick, slow), models=models) as mill:
        calm.control(latency=1.5)
        id = mill.submit(lines, allow_fallback=True)
        fell = "SELECT count(*) FROM attempt WHERE outcome = 'fell_back'"
        until(lambda: mill.rows(fell) == [(40,)])
        mill.kill(mill.worker())
        calm.control(latency=0.0)
        mill.await_rest(id)
        assert mill.field(id, "completed") == 40
        assert mill.field(id, "repeats_at_most") <= MOST_IN_FLIGHT + UNCOMMITTED
        assert deployments(mill, id, "fell_back") == {"alpha/tiny": 40}
    assert calm.stats()["keys"]["sk-alpha"]["arrived"] - before == 40
