import asyncio

import pytest

from worker.webhooks import sender
from worker.webhooks.sender import Message


@pytest.mark.parametrize("secrets", [[""], ["no secret"]])
def test_what_cannot_be_signed_is_not_sent_and_its_owner_can_see_why(secrets: list[str]) -> None:
    message = Message(id="d", url="http://127.0.0.1:49999/", secrets=secrets, timestamp=1, body=b"{}")
    answer = asyncio.run(sender.send(message, private=True))
    assert (answer.status, answer.is_success) == (None, False)
    assert "signing secret cannot be read" in str(answer.error)
