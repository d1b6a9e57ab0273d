"""How a key that refuses tells that its budget is spent."""

from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from tests.api.conftest import Serve, Server
from worker import config
from worker.routes import Routes
from worker.settings import Settings
from worker.store import api_keys


def test_a_create_over_budget_is_a_429_that_no_sdk_repeats(server: Server, tmp_path: Path) -> None:
    rules: api_keys.Rules = {"budget_day": 0, "over_budget": "refuse"}
    secret = server.database.write(lambda session: api_keys.create(session, "ann", "ann", **rules))[1]
    sdk = server.sdk.with_options(api_key=secret, max_retries=0)
    (tmp_path / "in.jsonl").write_text("{}")
    file = sdk.files.create(file=tmp_path / "in.jsonl", purpose="batch")
    with pytest.raises(openai.RateLimitError) as refused:
        sdk.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    assert (refused.value.code, refused.value.type) == ("insufficient_quota", "insufficient_quota")
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert "'ann' is spent until" in refused.value.message


def test_anthropics_clients_are_told_in_their_own_shape(server: Server) -> None:
    secret = make(server, budget_day=0, over_budget="refuse")
    sdk = anthropic.Anthropic(base_url=server.url, api_key=secret, max_retries=0)
    params: anthropic.types.messages.batch_create_params.Request = {
        "custom_id": "a",
        "params": {"model": "simulator/tiny", "max_tokens": 9, "messages": [{"role": "user", "content": "Grind."}]},
    }
    with pytest.raises(anthropic.RateLimitError) as refused:
        sdk.messages.batches.create(requests=[params])
    assert refused.value.body == {
        "type": "error",
        "error": {"type": "billing_error", "message": refused.value.body["error"]["message"]},  # type: ignore[index]
        "request_id": refused.value.request_id,
    }
    assert "'ann' is spent until" in str(refused.value)
    assert refused.value.response.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    "rules, prices, error",
    [
        ({"budget_batch": 1}, (1, 1), (429, "insufficient_quota")),
        ({"budget_day": 1}, (None, None), (403, "unknown_cost")),
    ],
)
def test_a_call_that_could_only_wait_is_refused_at_once(
    serve: Serve, rules: Any, prices: tuple[int | None, int | None], error: tuple[int, str]
) -> None:
    routes = Routes(config.parse("providers: {mill: {base_url: 'http://127.0.0.1:9/v1'}}"), Settings())
    server = serve(routes=routes, token_prices=lambda model: prices)
    sdk = server.sdk.with_options(api_key=make(server, **rules), max_retries=0)
    with pytest.raises(openai.APIStatusError) as refused:
        sdk.chat.completions.create(model="mill/flour", messages=[{"role": "user", "content": "Grind."}])
    assert (refused.value.status_code, refused.value.code) == error


def test_only_a_key_that_says_so_may_ask_for_unknown_costs(server: Server, tmp_path: Path) -> None:
    sdk = server.sdk.with_options(api_key=make(server, budget_day=10**12), max_retries=0)
    (tmp_path / "in.jsonl").write_text("{}")
    file = sdk.files.create(file=tmp_path / "in.jsonl", purpose="batch")

    def create() -> str:
        body = {"gristmill": {"allow_unknown_cost": True}}
        endpoint: Any = "/v1/chat/completions"
        return sdk.batches.create(
            input_file_id=file.id, endpoint=endpoint, completion_window="24h", extra_body=body
        ).status

    with pytest.raises(openai.PermissionDeniedError) as refused:
        create()
    assert refused.value.code == "unknown_cost" and "--allow-unknown-cost" in refused.value.message
    server.database.write(lambda session: api_keys.change(session, "ann", allow_unknown_cost=True))
    assert create() == "validating"


def make(server: Server, **rules: Any) -> str:
    return server.database.write(lambda session: api_keys.create(session, "ann", "ann", **rules))[1]
