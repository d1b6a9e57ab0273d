from decimal import Decimal
from pathlib import Path

import pytest

from worker import config
from worker.retention import Policy

WHOLE = """
providers:
  fast:
    kind: openai
    base_url: https://gateway.example/v1/
    api_key: ${FAST_KEY}
    auth: bearer
    rpm: 500
    tpm: 200000
    concurrency: 32
    share: 0.7
    headers: {x-team: evals}
    timeout: 120
    max_retries: 3
    extra_params: {seed: 1}
  local:
    base_url: ${LOCAL_URL:-http://127.0.0.1:8080/v1}
models:
  judge: fast/gpt-4o
  cheap:
    - {model: local/llama, weight: 3}
    - {model: fast/gpt-4o-mini}
prices:
  local/llama: {input: 0.1, cached_input: 0.05, output: 0.2}
limits: openai
retention: {batches: 90d, held: 36h, input_files: none}
"""


def test_everything_that_can_be_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FAST_KEY", "sk-fast")
    found = config.parse(WHOLE)
    fast = found.providers["fast"]
    assert (fast.rpm, fast.tpm, fast.concurrency, fast.share) == (500, 200_000, 32, 0.7)
    assert found.retention.policy == Policy(batches=90 * 86_400, held=36 * 3_600)
    assert (fast.base_url, fast.key, fast.max_retries) == ("https://gateway.example/v1", "sk-fast", 3)
    assert found.providers["local"].base_url == "http://127.0.0.1:8080/v1"
    assert [(entry.model, entry.weight) for entry in found.models["cheap"].deployments] == [
        ("local/llama", 3),
        ("fast/gpt-4o-mini", 1),
    ]
    assert found.models["judge"].deployments[0].model == "fast/gpt-4o"
    assert found.prices["local/llama"].input == Decimal("0.1")
    assert found.limits == "openai"


@pytest.mark.parametrize("text", ["", "providers:\n", "{}", "# nothing\n", "providers:\n  openai:\n"])
def test_nothing_has_to_be_said(text: str):
    assert config.parse(text).limits == "none"


@pytest.mark.parametrize(
    ("text", "report"),
    [
        ("provider: {}", "line 1: provider: unknown key; did you mean 'providers'?"),
        ("providers:\n  openai:\n    rmp: 5", "line 3: providers.openai.rmp: unknown key; did you mean 'rpm'?"),
        ("providers:\n  x: {kind: opnai}", "line 2: providers.x.kind: unknown kind 'opnai'; did you mean 'openai'?"),
        ("providers:\n  x: {rpm: 5}", "line 2: providers.x: needs its kind"),
        ("providers:\n  openai:\n    rpm: 0", "line 3: providers.openai.rpm: should be greater than 0"),
        ("providers:\n  openai: 5", "line 2: providers.openai: should be a"),
        ("providers:\n  a/b: {kind: openai}", "line 2: providers.a/b: String should match"),
        ("providers:\n  openai:\n    base_url: ${NOT_THERE}", "the environment variable NOT_THERE is not set"),
        ("providers:\n  openai:\n    base_url: api.example", "line 3: providers.openai.base_url: must begin with http"),
        ("models:\n  judge: gpt-4o", "line 2: models.judge.0.model: must be <provider>/<model>"),
        ("models:\n  judge: []", "line 2: models.judge"),
        ("models:\n  judge: opneai/gpt-4o", "line 2: models.judge: unknown provider 'opneai'; did you mean 'openai'?"),
        ("models:\n  j:\n  - model: openai/x\n    wieght: 2", "line 4: models.j.0.wieght: unknown key; did you mean"),
        ("prices:\n  gpt-4o: {input: 1}", "'gpt-4o' must be <provider>/<model>"),
        (
            "prices:\n  openai/x: {input: 1, ouput: 2}",
            "line 2: prices.openai/x.ouput: unknown key; did you mean 'output'?",
        ),
        ("retention: {batchs: 3d}", "line 1: retention.batchs: unknown key; did you mean 'batches'?"),
        ("retention:\n  held: 90", "line 2: retention.held: must be a duration such as"),
        ("limits: strict", "line 1: limits: should be 'openai' or 'none'"),
        ("limits: none\nlimits: openai", "is given twice, on lines 1 and 2"),
        ("[1, 2]", "line 1: the file: should be a mapping"),
    ],
)
def test_a_fault_is_named_with_its_line(text: str, report: str):
    with pytest.raises(config.ConfigInvalid) as caught:
        config.parse(text)
    assert report in str(caught.value)


def test_all_faults_are_told_at_once():
    with pytest.raises(config.ConfigInvalid) as caught:
        config.parse("limits: strict\nprovider: {}\nproviders:\n  openai: {rmp: 1, tpm: x}")
    assert str(caught.value).count("\n") == 4


@pytest.mark.parametrize("text", ["providers: [", "a: b: c", "\tproviders: {}", "&a [*a]"])
def test_what_is_not_yaml_says_where(text: str):
    with pytest.raises(config.ConfigSyntax, match="line 1"):
        config.parse(text)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(config.ConfigUnreadable, match="No such file"):
        config.load(tmp_path / "gristmill.yaml")


def test_a_missing_key_is_no_fault_until_it_is_needed():
    found = config.parse("providers:\n  openai: {api_key: '${NOT_THERE}'}").providers["openai"]
    assert found.missing_variable == "NOT_THERE"
    assert found.key is None


def test_a_key_is_never_shown():
    assert "sk-secret" not in repr(config.parse("providers:\n  openai: {api_key: sk-secret}"))
