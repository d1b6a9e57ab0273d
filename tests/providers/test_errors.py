import inspect
import pickle
import re

import orjson
import pytest

from providers import errors, verdict

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.ProviderError)]
NAMED = [kind for kind in KINDS if not kind.__name__.startswith("_") and kind is not errors.ProviderError]


@pytest.mark.parametrize("kind", NAMED)
def test_the_drawn_tree_tells_each_verdict(kind):
    drawn = re.search(rf"── {kind.__name__} +.*? {{2,}}(\w+)(?:\((\w+)\))?$", errors.__doc__, re.MULTILINE)
    assert drawn
    decided = kind("x", retry_after=2.0).verdict
    assert type(decided).__name__ == drawn[1]
    kind_or_reason = getattr(decided, "kind", getattr(decided, "reason", None))
    assert (kind_or_reason.name if kind_or_reason else None) == drawn[2]
    assert isinstance(decided, verdict.GiveUp) or decided.wait == 2.0


@pytest.mark.parametrize("kind", NAMED)
def test_every_error_has_a_public_form(kind):
    error = kind("what happened")
    assert 400 <= error.public_status() < 600
    assert orjson.loads(error.public_body())["error"] == {
        "message": "what happened", "type": "provider_error", "param": None, "code": kind.default_code,
    }  # fmt: skip


def test_the_providers_own_error_is_shown_as_sent():
    body = b'{\n  "error": {"message": "m", "type": null, "param": null, "code": "c", "more": 1.10}\n}\n'
    assert errors.ServerError("m", body=body).public_body() == (
        b'{"error": {"message": "m", "type": null, "param": null, "code": "c", "more": 1.10}}'
    )


def test_a_cut_body_is_not_shown():
    body = b'{"error": {"message": "%s", "type": null, "param": null, "code": "c"}}' % (b"m" * errors.MAX_BODY)
    error = errors.ServerError("short", body=body)
    assert len(error.body) == errors.MAX_BODY
    assert orjson.loads(error.public_body())["error"]["message"] == "short"


def test_an_error_inside_a_success_is_shown_as_an_error():
    assert errors.ServerError("x", status_code=200).public_status() == 502


def test_errors_stay_in_their_process():
    with pytest.raises(TypeError):
        pickle.dumps(errors.ServerError("x"))
