import dataclasses

import pytest

from providers import deployment, registry, secret

OPENAI = registry.get("openai")


def made(**changes):
    known = {"provider": "mine", "spec": OPENAI, "model": "m", "base_url": "http://h/v1", **changes}
    return deployment.Deployment(**known)


def test_name_and_scope():
    assert (made().name, made().scope) == ("mine/m", "mine/default/m")
    assert made(account="second").name == "mine/m@second"
    account_wide = dataclasses.replace(OPENAI, scope_of="account")
    assert made(spec=account_wide, account="second").scope == "mine/second"


def test_keys_are_not_in_its_text():
    text = repr(made(api_key=secret.Secret("sk-hidden"), headers=(("api-key", "also-hidden"),)))
    assert "hidden" not in text


def test_headers_carry_the_key_and_configured_ones_win():
    headers = made(api_key=secret.Secret("sk-x"), headers=(("User-Agent", "mine"),)).request_headers
    assert headers["authorization"] == "Bearer sk-x"
    assert headers.get_list("user-agent") == ["mine"]
    assert "authorization" not in made().request_headers


def test_urls_stand_below_the_base():
    assert str(made(base_url="http://h:8000/v1/").urls["embeddings"]) == "http://h:8000/v1/embeddings"


@pytest.mark.parametrize(
    "url", ["ftp://h/v1", "h/v1", "http://u:p@h/v1", "http://h/v1?key=hidden", "http://h/#x", "http://[", ""]
)
def test_a_wrong_base_url_is_refused_without_quoting_it(url):
    with pytest.raises(ValueError, match="base_url of mine") as caught:
        made(base_url=url)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("timeout", [0, -1, 1201, float("nan")])
def test_a_timeout_has_bounds(timeout):
    with pytest.raises(ValueError, match="timeout of mine"):
        made(timeout=timeout)


def test_headers_that_cannot_be_sent_are_refused():
    with pytest.raises(ValueError, match="headers of mine"):
        made(headers=(("x", "a\r\nb: c"),))


def test_extra_params_must_be_json():
    with pytest.raises(ValueError, match="JSON"):
        made(extra_params={"temperature": float("nan")})


def test_it_can_be_a_key_of_a_dict():
    assert len({made(extra_params={"a": 1}), made(extra_params={"a": 1})}) == 1
