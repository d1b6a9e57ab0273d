"""What we sign is verified by the OpenAI SDK and by the reference implementation of Standard Webhooks."""

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import openai
import pytest
import standardwebhooks
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.webhooks import sender, signature

BODY = b'{"id":"evt_1","object":"event","created_at":1,"type":"batch.completed","data":{"id":"batch_1"}}'
SDK = openai.OpenAI(api_key="any", base_url="http://127.0.0.1:1")

Verify = Callable[[str, bytes, dict[str, str]], object]


def unwrap(secret: str, body: bytes, headers: dict[str, str]) -> object:
    return SDK.webhooks.unwrap(body, headers, secret=secret)


def reference(secret: str, body: bytes, headers: dict[str, str]) -> object:
    return standardwebhooks.Webhook(secret).verify(body, headers)


@pytest.fixture(params=[unwrap, reference])
def verify(request: pytest.FixtureRequest) -> Verify:
    found: Verify = request.param
    return found


def now() -> int:
    return int(time.time())


def test_both_verifiers_accept_a_signature(verify: Verify) -> None:
    secret = signature.new_secret()
    assert verify(secret, BODY, signature.headers([secret], "wh_1", now(), BODY))


def test_the_sdk_finds_the_event_in_it() -> None:
    secret = signature.new_secret()
    event = SDK.webhooks.unwrap(BODY, signature.headers([secret], "wh_1", now(), BODY), secret=secret)
    assert isinstance(event, openai.types.webhooks.BatchCompletedWebhookEvent)
    assert event.data.id == "batch_1"


def test_the_sdk_passes_on_an_event_that_it_does_not_know() -> None:
    secret = signature.new_secret()
    body = sender.event_body("evt_1", "batch.progress", 1.0, "batch_1", {"request_counts": {"total": 5}})
    headers = signature.headers([secret], "wh_1", now(), body)
    event: Any = SDK.webhooks.unwrap(body, headers, secret=secret)
    assert (event.type, event.data.id, event.data.request_counts) == ("batch.progress", "batch_1", {"total": 5})
    assert not isinstance(event, openai.types.webhooks.BatchCompletedWebhookEvent)


def test_during_a_rotation_either_secret_verifies_and_another_does_not(verify: Verify) -> None:
    new, old = signature.new_secret(), signature.new_secret()
    headers = signature.headers([new, old], "wh_1", now(), BODY)
    assert headers["webhook-signature"].count(" ") == 1
    assert verify(new, BODY, headers) and verify(old, BODY, headers)
    with pytest.raises(Exception, match=r"(?i)signature"):
        verify(signature.new_secret(), BODY, headers)


@pytest.mark.parametrize("seconds", [-360, 360])
def test_a_message_of_another_time_is_refused(verify: Verify, seconds: int) -> None:
    secret = signature.new_secret()
    with pytest.raises(Exception, match="timestamp"):
        verify(secret, BODY, signature.headers([secret], "wh_1", now() + seconds, BODY))


@settings(deadline=None, max_examples=200)
@given(key=st.binary(min_size=24, max_size=64), text=st.text(max_size=200), flip=st.integers(min_value=0))
def test_any_changed_bit_is_seen(key: bytes, text: str, flip: int) -> None:
    secret = signature.PREFIX + base64.b64encode(key).decode()
    body = json.dumps({"text": text}).encode()
    headers = signature.headers([secret], "wh_1", now(), body)
    reference(secret, body, headers)
    changed = bytearray(body)
    changed[flip // 8 % len(body)] ^= 1 << flip % 8
    with pytest.raises((standardwebhooks.WebhookVerificationError, UnicodeDecodeError)):
        reference(secret, bytes(changed), headers)


def test_secrets_have_32_random_bytes_and_differ() -> None:
    made = {signature.new_secret() for _ in range(100)}
    assert len(made) == 100
    assert all(len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) == 32 for secret in made)


def test_a_hint_shows_four_characters() -> None:
    secret = signature.new_secret()
    assert signature.hint(secret) == f"whsec_...{secret[-4:]}"


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!!!!", "whsec_" + "QQ==", "A" * 44, "whsec_" + "A" * 43])
def test_what_is_no_secret_is_refused_without_repeating_it(secret: str) -> None:
    with pytest.raises(signature.SecretError) as caught:
        signature.sign(secret, "wh_1", 1, BODY)
    assert not secret or secret not in str(caught.value) or secret == "whsec_"
