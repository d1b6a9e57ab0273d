from pathlib import Path

import pytest

from worker import config, routes, settings


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)


def routes_of(text: str = "") -> routes.Routes:
    return routes.Routes(config.parse(text), settings.load())


@pytest.mark.parametrize("model", ["openai/gpt-4o-mini", "gpt-4o-mini"])
def test_openai_needs_no_configuration(monkeypatch: pytest.MonkeyPatch, model: str):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-mine")
    route = routes_of().resolve(model)
    (deployment,) = route.deployments
    assert route.name == "openai/gpt-4o-mini"
    assert deployment.base_url == "https://api.openai.com/v1"
    assert deployment.api_key is not None and deployment.api_key.reveal() == "sk-mine"


def test_a_missing_key_names_its_variable():
    with pytest.raises(routes.MissingKey, match="OPENAI_API_KEY") as caught:
        routes_of().resolve("gpt-4o-mini")
    assert caught.value.variable == "OPENAI_API_KEY"


def test_openai_base_url_elsewhere_needs_no_key_and_takes_any_bare_name(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9000/v1/")
    found = routes_of()
    for model in ("gpt-4o-mini", "smollm2"):
        (deployment,) = found.resolve(model).deployments
        assert (deployment.base_url, deployment.model, deployment.api_key) == ("http://127.0.0.1:9000/v1", model, None)
    assert next(found.notes()) == "openai is called at http://127.0.0.1:9000/v1"


def test_a_key_of_the_environment_goes_where_the_environment_says(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9000/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-mine")
    (deployment,) = routes_of().resolve("gpt-4o").deployments
    assert deployment.api_key is not None


def test_a_key_of_the_environment_never_goes_where_only_the_file_says(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-mine")
    found = routes_of("providers:\n  openai: {base_url: 'https://gateway.example/v1'}")
    (deployment,) = found.resolve("openai/gpt-4o").deployments
    assert deployment.api_key is None
    assert "openai gets no key there; api_key: ${OPENAI_API_KEY} would send one" in list(found.notes())


def test_an_unknown_model_of_a_known_provider_passes_through(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-mine")
    (deployment,) = routes_of().resolve("openai/meta/llama").deployments
    assert deployment.model == "meta/llama"


def test_an_alias_stands_for_its_deployments(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("A_KEY", "sk-a")
    route = routes_of("""
providers:
  a: {kind: openai, api_key: '${A_KEY}', timeout: 30, headers: {x-team: evals}, extra_params: {seed: 1}}
  b: {base_url: 'http://127.0.0.1:8001/v1'}
models:
  judge: [{model: a/gpt-4o, weight: 3}, {model: b/llama}]
""").resolve("judge")
    assert [deployment.name for deployment in route.deployments] == ["a/gpt-4o", "b/llama"]
    assert route.weights == (3, 1)
    assert route.deployments[0].timeout == 30
    assert route.deployments[0].headers == (("x-team", "evals"),)
    assert route.deployments[0].extra_params == {"seed": 1}


def test_a_bare_name_goes_to_the_one_configured_provider_of_its_kind(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("A_KEY", "sk-a")
    found = routes_of("providers:\n  a: {kind: openai, api_key: '${A_KEY}'}")
    assert found.resolve("gpt-4o").name == "a/gpt-4o"


@pytest.mark.parametrize(
    ("model", "hint"),
    [
        ("opnai/gpt-4o", "did you mean 'openai/gpt-4o'"),
        ("jugde", "did you mean 'judge'"),
        ("zzz/qqq", "providers are openai"),
        ("llama", "write it as <provider>/<model>"),
        ("openai/", "neither an alias nor a known model"),
        ("", "neither an alias nor a known model"),
    ],
)
def test_an_unknown_model_names_the_nearest(model: str, hint: str):
    with pytest.raises(routes.UnknownModel, match=hint):
        routes_of("models:\n  judge: openai/gpt-4o").resolve(model)


def test_the_simulator_serves_only_where_it_runs(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(routes.BadAddress, match="not running"):
        routes_of().resolve("simulator/echo")
    monkeypatch.setenv("GRISTMILL_SIMULATOR_URL", "http://127.0.0.1:9999/v1")
    (deployment,) = routes_of().resolve("simulator/echo").deployments
    assert deployment.base_url == "http://127.0.0.1:9999/v1"


def test_a_key_that_cannot_be_one_is_refused_without_being_shown(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk with spaces")
    with pytest.raises(routes.MissingKey) as caught:
        routes_of().resolve("gpt-4o")
    assert "sk with" not in str(caught.value)


def test_a_local_server_wants_no_key():
    (deployment,) = (
        routes_of("providers:\n  v: {base_url: 'http://127.0.0.1:1/v1', auth: none}").resolve("v/m").deployments
    )
    assert deployment.spec.auth == "none"


def test_a_key_that_nobody_can_read_stops_only_its_provider(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("OPENAI_API_KEY_FILE", str(tmp_path / "gone"))
    monkeypatch.setenv("A_KEY", "sk-a")
    found = routes_of("providers:\n  a: {kind: openai, api_key: '${A_KEY}'}")
    with pytest.raises(routes.MissingKey, match="gone cannot be read"):
        found.resolve("openai/gpt-4o")
    assert found.resolve("a/gpt-4o").deployments[0].api_key is not None


def test_an_account_is_part_of_the_scope(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-mine")
    (deployment,) = routes_of("providers:\n  openai: {account: work}").resolve("openai/gpt-4o").deployments
    assert deployment.scope == "openai/work/gpt-4o"


def test_memory_does_not_grow_with_the_names_that_clients_make_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(routes, "MOST_FOUND", 3)
    found = routes_of("providers: {lab: {kind: openai_compatible, base_url: 'http://127.0.0.1:9/v1'}}")
    assert [found.resolve(f"lab/{n}").name for n in range(10)] == [f"lab/{n}" for n in range(10)]
    assert len(found._found) <= 3


ACCOUNTS = """
providers:
  openai: {accounts: {a: {api_key: sk-a, weight: 3}, b: {api_key: '${KEY_B}'}}}
models:
  judge: [{model: openai/gpt-4o, weight: 2}, {model: openai/gpt-4.1}]
"""


def test_accounts_are_scopes_of_their_own_and_share_the_weight(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KEY_B", "sk-b")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-elsewhere")
    found = routes_of(ACCOUNTS)
    route = found.resolve("openai/gpt-4o-mini")
    assert [(one.name, one.scope) for one in route.deployments] == [
        ("openai/gpt-4o-mini@a", "openai/a/gpt-4o-mini"),
        ("openai/gpt-4o-mini@b", "openai/b/gpt-4o-mini"),
    ]
    assert [one.api_key and one.api_key.reveal() for one in route.deployments] == ["sk-a", "sk-b"]
    assert route.weights == (0.75, 0.25)
    assert found.resolve("judge").weights == (1.5, 0.5, 0.75, 0.25)


def test_an_account_never_takes_the_key_of_the_variable(monkeypatch: pytest.MonkeyPatch):
    """It would be the same account twice."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-mine")
    with pytest.raises(routes.MissingKey, match="'openai@b' needs an API key: set the environment variable KEY_B"):
        routes_of(ACCOUNTS).resolve("judge")
    bare = routes_of("providers:\n  openai: {accounts: {a: {}}}")
    with pytest.raises(routes.MissingKey, match=r"name it under 'api_key'.*set-key openai --account a"):
        bare.resolve("gpt-4o")


def test_every_model_that_may_stand_in_is_known():
    found = routes_of("""
providers:
  lab: {base_url: 'http://127.0.0.1:9/v1'}
models:
  small: {deployments: [lab/s], fallbacks: {context_window: [large], general: [lab/x]}}
  large: {deployments: [lab/l], fallbacks: {general: [small]}}
""")
    assert set(found.resolve("small").fallbacks) == {"lab/l", "lab/x", "lab/s"}
    assert found.resolve("lab/s").fallbacks == ()
