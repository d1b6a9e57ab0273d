import copy
import pickle
import traceback

import pytest

from providers import secret

KEY = "sk-0123456789"


def test_a_key_is_never_shown():
    hidden = secret.Secret(KEY)
    assert KEY not in f"{hidden} {hidden!r} {[hidden]!r}"
    assert hidden.reveal() == KEY


def test_a_key_is_never_serialized():
    for way in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            way(secret.Secret(KEY))


@pytest.mark.parametrize("value", ["", KEY + "\n", KEY + " ", KEY + "é", KEY + "\x00"])
def test_a_key_that_no_header_can_carry_is_refused_without_showing_it(value):
    with pytest.raises(ValueError, match="printable ASCII") as caught:
        secret.Secret(value)
    assert KEY not in "".join(traceback.format_exception_only(caught.value))


def test_equal_keys_are_equal():
    assert secret.Secret(KEY) == secret.Secret(KEY) != secret.Secret("other")
    assert len({secret.Secret(KEY), secret.Secret(KEY)}) == 1
