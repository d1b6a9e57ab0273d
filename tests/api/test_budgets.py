"""How a key that refuses tells that its budget is spent."""

from pathlib import Path

import openai
import pytest

from tests.api.conftest import Server
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
