import pytest

from worker import config
from worker.alias_config import Strategy

WHOLE = """
providers:
  lab: {base_url: 'http://127.0.0.1:8080/v1'}
models:
  judge:
    strategy: least_busy
    deployments: [openai/gpt-4o, {model: lab/llama, weight: 2}]
    cooldown: 2m
    fallbacks:
      general: [spare, openai/gpt-4.1]
      context_window: [openai/gpt-4.1]
      content_policy: [lab/llama]
      filtered_answers: true
  spare: lab/qwen
  pair: [lab/a, lab/b]
"""


def test_the_long_form_of_an_alias() -> None:
    models = config.parse(WHOLE).models
    judge = models["judge"]
    assert (judge.strategy, judge.cooldown) == (Strategy.LEAST_BUSY, 120.0)
    assert [(one.model, one.weight) for one in judge.deployments] == [("openai/gpt-4o", 1), ("lab/llama", 2)]
    assert judge.fallbacks.general == ("spare", "openai/gpt-4.1") and judge.fallbacks.filtered_answers
    assert [one.model for one in models["pair"].deployments] == ["lab/a", "lab/b"]
    assert models["spare"].strategy is Strategy.WEIGHTED and models["spare"].fallbacks.general == ()


@pytest.mark.parametrize(
    ("text", "report"),
    [
        ("j: {deployments: []}", "line 4: models.j.deployments"),
        ("j: {strategy: weighted}", "line 4: models.j.deployments: Field required"),
        (
            "j:\n    deployments: [lab/a]\n    startegy: weighted",
            "line 6: models.j.startegy: unknown key; did you mean",
        ),
        ("j:\n    deployments: [lab/a]\n    strategy: random", "line 6: models.j.strategy: should be 'weighted', "),
        ("j:\n    deployments:\n    - {model: lab/a, wieght: 2}", "line 6: models.j.deployments.0.wieght: unknown key"),
        ("j:\n    deployments: [lab/a]\n    cooldown: soon", "line 6: models.j.cooldown: must be a duration"),
        (
            "j:\n    deployments: [lab/a]\n    fallbacks: {generl: [lab/b]}",
            "fallbacks.generl: unknown key; did you mean",
        ),
        (
            "j:\n    deployments: [lab/a]\n    fallbacks:\n      general: [lab/b, jury]",
            "line 7: models.j.fallbacks.general.1: 'jury' is neither an alias nor <provider>/<model>",
        ),
        (
            "j:\n    deployments: [lab/a]\n    fallbacks:\n      general: [lba/b]",
            "'lba/b' is neither an alias nor <provider>/<model>; did you mean 'lab/b'?",
        ),
        (
            "j:\n    deployments: [lab/a]\n    fallbacks:\n      general: [simulator/tiny]",
            "'simulator/tiny' is simulated: nothing else may fall back to it",
        ),
        (
            "j:\n    deployments: [lab/a]\n    fallbacks:\n      general: [j]",
            "line 7: models.j.fallbacks.general: comes back to itself: j -> j",
        ),
    ],
)
def test_a_fault_is_named_with_its_line(text: str, report: str) -> None:
    with pytest.raises(config.ConfigInvalid) as caught:
        config.parse(f"providers:\n  lab: {{base_url: 'http://127.0.0.1:8080/v1'}}\nmodels:\n  {text}")
    assert report in str(caught.value)


def test_a_longer_loop_is_found_at_each_of_its_members() -> None:
    loop = "".join(
        f"  {a}: {{deployments: [openai/x], fallbacks: {{general: [{b}]}}}}\n" for a, b in ("ab", "bc", "ca")
    )
    with pytest.raises(config.ConfigInvalid, match="a -> b -> c -> a") as caught:
        config.parse(f"models:\n{loop}")
    assert str(caught.value).count("comes back to itself") == 3


def test_kinds_may_point_at_each_other() -> None:
    config.parse("""
models:
  small: {deployments: [openai/s], fallbacks: {context_window: [large]}}
  large: {deployments: [openai/l], fallbacks: {general: [small]}}
""")


def test_accounts_are_named_and_have_keys_and_limits_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_B", "sk-b")
    openai = config.parse("""
providers:
  openai:
    rpm: 100
    timeout: 30
    accounts: {a: {api_key: sk-a, rpm: 500}, b: {api_key: '${KEY_B}', weight: 2}}
""").providers["openai"]
    a, b = openai.of_account("a"), openai.of_account("b")
    assert (a.account, a.key, a.rpm, a.timeout) == ("a", "sk-a", 500, 30)
    assert (b.account, b.key, b.rpm, openai.weight_of("b")) == ("b", "sk-b", 100, 2)


@pytest.mark.parametrize(
    ("section", "report"),
    [
        ("{api_key: sk-x, accounts: {a: {}}}", "has accounts: api_key must be said of each of them"),
        ("{accounts: {a/b: {}}}", "String should match"),
        ("{accounts: {a: {rmp: 5}}}", "providers.openai.accounts.a.rmp: unknown key; did you mean 'rpm'?"),
    ],
)
def test_wrong_accounts(section: str, report: str) -> None:
    with pytest.raises(config.ConfigInvalid) as caught:
        config.parse(f"providers:\n  openai: {section}")
    assert report in str(caught.value)
