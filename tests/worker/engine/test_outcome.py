import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from providers import errors
from providers.cost import Cost
from providers.pricing import PriceBook
from providers.result import Ending, ProviderResult
from providers.usage import Usage
from worker import config, settings, tables
from worker.catalog import Catalog
from worker.engine import outcome
from worker.engine.outcome import Call
from worker.routes import Routes
from worker.states import Outcome
from worker.store.slices import Claim, ClaimedJob

CONFIG = """
providers:
  mill: {base_url: 'http://127.0.0.1:9/v1'}
prices:
  mill/flour: {input: 1.0, output: 2.0}
"""
USAGE = Usage(input_tokens=10, output_tokens=5)


@pytest.fixture
def catalog(home: Path) -> Catalog:
    parsed, loaded = config.parse(CONFIG), settings.load()
    prices = PriceBook({name: section.model_dump() for name, section in parsed.prices.items()})
    return Catalog(parsed, Routes(parsed, loaded), prices, loaded)


def call(catalog: Catalog, model: str = "mill/flour") -> Call:
    [deployment] = catalog.resolve(model).deployments
    return Call(claim=claim(model), job=job(), deployment=deployment, attempt=7, reserved=99)


def claim(route: str) -> Claim:
    return Claim(
        slice=3,
        epoch=2,
        owner="local",
        batch=1,
        batch_id="batch_x",
        route=route,
        alone=False,
        priority=0,
        answered=0,
        input_file_id="file-x",
        input_price=None,
        output_price=None,
        jobs=(job(),),
    )


def job() -> ClaimedJob:
    return ClaimedJob(
        id=tables.job_id(1, 5),
        custom_id="five",
        endpoint="chat/completions",
        generation=4,
        offset=0,
        length=1,
        model_offset=0,
        model_length=1,
        input_tokens=1,
        output_tokens=1,
        attempts=0,
        wait=0.0,
    )


def result(**facts: Any) -> ProviderResult:
    given: dict[str, Any] = {
        "status_code": 200,
        "request_id": "req_1",
        "body": b'{"id":"x"}',
        "model": "flour-1",
        "fingerprint": "fp",
        "usage": USAGE,
        "cost": None,
        "ending": Ending.COMPLETE,
        "headers": {},
    }
    return ProviderResult(**{**given, **facts})


def line(raw: bytes) -> Any:
    assert raw.endswith(b"\n") and raw.count(b"\n") == 1
    return json.loads(raw)


def test_an_answer_becomes_the_line_that_was_asked_for(catalog: Catalog) -> None:
    ended = outcome.succeeded(call(catalog), result(), catalog, 0.25)
    assert line(ended.line) == {
        "id": f"batch_req_{tables.job_id(1, 5):016x}",
        "custom_id": "five",
        "response": {"status_code": 200, "request_id": "req_1", "body": {"id": "x"}},
        "error": None,
    }
    assert (ended.kind, ended.outcome, ended.generation, ended.epoch, ended.attempt) == (
        "output",
        Outcome.SUCCEEDED,
        4,
        2,
        7,
    )
    assert (ended.deployment, ended.reserved, ended.seconds) == ("mill/flour", 99, 0.25)


def test_a_message_batch_gets_its_lines_in_its_own_format(catalog: Catalog) -> None:
    ours = call(catalog)
    asked = dataclasses.replace(ours, claim=dataclasses.replace(ours.claim, kind="messages"))
    done = outcome.succeeded(asked, result(), catalog, 0.1)
    assert line(done.line) == {"custom_id": "five", "result": {"type": "succeeded", "message": {"id": "x"}}}
    assert (done.kind, done.batch_kind) == ("output", "messages")
    slow = outcome.failed(asked, errors.DeadlineError("too late", request_id="r"), Outcome.FAILED, catalog, 0.1)
    wrong = outcome.unreadable(asked, "gone")
    ill = outcome.broken(asked, "KeyError", 0.1)
    told = [line(one.line)["result"]["error"] for one in (slow, wrong, ill)]
    assert [error["error"]["type"] for error in told] == ["timeout_error", "invalid_request_error", "api_error"]
    assert (told[0]["request_id"], told[0]["error"]["message"]) == ("r", "too late")


def test_the_provider_knows_best_what_it_cost(catalog: Catalog) -> None:
    told = outcome.succeeded(call(catalog), result(cost=Cost(picousd=3, source="provider")), catalog, 0.1)
    assert (told.cost, told.cost_source) == (3, "provider")
    computed = outcome.succeeded(call(catalog), result(), catalog, 0.1)
    assert (computed.cost, computed.cost_source) == (20_000_000, "config")


def test_a_cost_that_is_not_known_is_none(catalog: Catalog) -> None:
    assert outcome.succeeded(call(catalog, "mill/unpriced"), result(), catalog, 0.1).cost is None
    assert outcome.succeeded(call(catalog), result(usage=None), catalog, 0.1).cost is None


@pytest.mark.parametrize(("billed", "cost"), [(True, None), (False, 0)])
def test_a_failed_call_costs_nothing_only_if_it_reached_no_model(
    catalog: Catalog, billed: bool, cost: int | None
) -> None:
    error = errors.ServerError("no", status_code=500, may_be_billed=billed)
    ended = outcome.failed(call(catalog), error, Outcome.RETRY, catalog, 0.1)
    assert (ended.cost, ended.kind, ended.line, ended.outcome) == (cost, None, b"", Outcome.RETRY)


def test_a_failed_call_with_usage_has_its_price(catalog: Catalog) -> None:
    error = errors.ServerError("no", status_code=500, usage=USAGE)
    assert outcome.failed(call(catalog), error, Outcome.FAILED, catalog, 0.1).cost == 20_000_000
    assert outcome.failed(call(catalog, "mill/unpriced"), error, Outcome.FAILED, catalog, 0.1).cost is None


def test_a_final_error_is_the_providers_own(catalog: Catalog) -> None:
    body = b'{\n "error": {"message": "bad", "type": "t", "param": null, "code": "c"}\n}'
    error = errors.InvalidRequestError("bad", status_code=422, code="c", request_id="r", body=body)
    ended = outcome.failed(call(catalog), error, Outcome.FAILED, catalog, 0.1)
    response = line(ended.line)["response"]
    assert (response["status_code"], response["request_id"]) == (422, "r")
    assert response["body"]["error"]["code"] == "c"
    assert (ended.kind, ended.error_code) == ("error", "c")


@pytest.mark.parametrize("text", ["\0", "\udcff", "a" * 10_000, "é\ud800\0"])
def test_whatever_a_header_holds_can_be_stored(catalog: Catalog, text: str) -> None:
    good = outcome.succeeded(call(catalog), result(request_id=text, model=text, fingerprint=text), catalog, 0.1)
    error = errors.InvalidRequestError("bad", status_code=400, code=text, request_id=text)
    bad = outcome.failed(call(catalog), error, Outcome.FAILED, catalog, 0.1)
    for ended in (good, bad):
        assert line(ended.line)["custom_id"] == "five"
        for kept in (ended.request_id, ended.model, ended.fingerprint, ended.error_code):
            assert kept is None or (len(kept) <= 200 and "\0" not in kept.encode().decode())


def test_an_unreadable_request_and_a_defect_of_ours_are_results_too(catalog: Catalog) -> None:
    unread = outcome.unreadable(call(catalog), "gone")
    assert (unread.cost, line(unread.line)["response"]["body"]["error"]["code"]) == (0, "input_file_unreadable")
    broken = outcome.broken(call(catalog), "KeyError", 0.1)
    assert (broken.cost, line(broken.line)["response"]["body"]["error"]["code"]) == (None, "internal_error")
    assert unread.kind == broken.kind == "error"


def test_a_call_that_we_ended_has_no_line_and_an_unknown_cost(catalog: Catalog) -> None:
    ended = outcome.abandoned(call(catalog), 0.1)
    assert (ended.outcome, ended.kind, ended.line, ended.cost) == (Outcome.ABANDONED, None, b"", None)
