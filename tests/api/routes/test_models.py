import openai
import pytest

from tests.api.conftest import Serve
from worker import config
from worker.routes import Routes
from worker.settings import Settings

YAML = """
providers:
  local: {kind: openai_compatible, base_url: "http://127.0.0.1:9/v1", auth: none}
models:
  cheap: local/small
prices:
  local/small: {input: 1}
"""


def test_aliases_and_configured_models_are_listed(serve: Serve) -> None:
    server = serve(routes=Routes(config.parse(YAML), Settings()))
    assert [(model.id, model.owned_by) for model in server.sdk.models.list()] == [
        ("cheap", "local"),
        ("local/small", "local"),
    ]


def test_any_model_of_a_known_provider_can_be_asked_for(serve: Serve) -> None:
    server = serve(routes=Routes(config.parse(YAML), Settings()))
    assert server.sdk.models.retrieve("local/org/anything").id == "local/org/anything"
    with pytest.raises(openai.NotFoundError) as raised:
        server.sdk.models.retrieve("nobody/anything")
    assert raised.value.code == "model_not_found"
