import pytest

from worker import config
from worker.allowed_models import EVERYTHING, AllowedModels, ModelNotAllowed
from worker.routes import Routes
from worker.settings import Settings

CONFIG = config.parse("""
providers:
  openai: {api_key: k}
  lab: {kind: openai_compatible, base_url: 'http://lab:1/v1'}
models:
  judge: [{model: openai/gpt-4o}, {model: lab/llama}]
  cheap: openai/gpt-4o-mini
""")


@pytest.mark.parametrize(
    ("patterns", "model", "allowed"),
    [
        (["openai/*"], "openai/gpt-4o", True),
        (["openai/*"], "gpt-4o", True),
        (["openai/*"], "lab/llama", False),
        (["openai/*"], "cheap", True),
        (["openai/*"], "judge", False),
        (["openai/*", "lab/llama"], "judge", True),
        (["judge"], "judge", True),
        (["judge"], "lab/llama", False),
        (["gpt-4o"], "gpt-4o", True),
        (["OPENAI/*"], "openai/gpt-4o", False),
        ([], "openai/gpt-4o", False),
        (None, "openai/gpt-4o", True),
    ],
)
def test_a_model_as_written_and_as_resolved(patterns: list[str] | None, model: str, allowed: bool) -> None:
    route = Routes(CONFIG, Settings()).resolve(model)
    for _ in range(2):
        assert AllowedModels("ann", patterns).permits(model, route) is allowed
    assert EVERYTHING.permits(model, route)


def test_the_message_names_model_and_key() -> None:
    route = Routes(CONFIG, Settings()).resolve("lab/llama")
    with pytest.raises(ModelNotAllowed, match=r"'ann'.*'lab/llama'.*openai"):
        AllowedModels("ann", ["openai/*"]).check("lab/llama", route)
