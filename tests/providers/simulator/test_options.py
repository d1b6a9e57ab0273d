"""Options can change while the simulator runs, and wrong ones are refused."""

from typing import Any

import pytest

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}]}


def test_control_changes_what_happens_from_now_on(ask: Any) -> None:
    assert ask("/v1/chat/completions", CHAT).status == 200
    assert ask("/control", {"faults": {"status=503": 1.0}, "models": {"large": {"faults": {}}}}).status == 200
    assert ask("/v1/chat/completions", CHAT).status == 503
    assert ask("/v1/chat/completions", {**CHAT, "model": "large"}).status == 200
    ask("/control", {"faults": {}})
    assert ask("/v1/chat/completions", CHAT).status == 200


def test_a_name_is_forgotten_by_null(ask: Any) -> None:
    ask("/control", {"keys": {"sk-a": {"rpm": 1}, "sk-b": {"rpm": 2}}})
    ask("/control", {"keys": {"sk-a": None}})
    assert ask("/control").json["keys"] == {"sk-b": {"rpm": 2}}


def test_a_key_may_be_dead_or_out_of_money(make: Any) -> None:
    ask = make(keys={"sk-dead": {"refuse": "invalid_api_key"}, "sk-empty": {"refuse": "insufficient_quota"}})
    assert ask("/v1/chat/completions", CHAT, key="sk-dead").status == 401
    assert ask("/v1/chat/completions", CHAT, key="sk-empty").error["code"] == "insufficient_quota"
    assert ask("/v1/chat/completions", CHAT).status == 200


def test_a_key_may_be_demanded(make: Any) -> None:
    ask = make(require_key=True)
    assert ask("/v1/chat/completions", CHAT, key="").status == 401
    assert ask("/v1/chat/completions", CHAT).status == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"rmp": 3},
        {"rpm": "3"},
        {"rpm": 0},
        {"rpm": True},
        {"latency": -1},
        {"latency": None},
        {"mode": "leaky"},
        {"require_key": 1},
        {"faults": {"status=503": 2}},
        {"faults": {"sttaus=503": 0.5}},
        {"faults": {"status=5": 0.5}},
        {"keys": {"sk-a": {"seed": 2}}},
        {"models": 3},
        [],
    ],
)
def test_a_wrong_option_is_refused_and_changes_nothing(ask: Any, changes: Any) -> None:
    before = ask("/control").json
    response = ask("/control", changes)
    assert response.status == 400
    assert isinstance(response.json["error"], str)
    assert ask("/control").json == before
