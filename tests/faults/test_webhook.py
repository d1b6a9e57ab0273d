"""Everything is killed between the end of a batch and the delivery of its webhook, whose receiver is down besides."""

from pathlib import Path

import openai

from providers.simulator.process import Process
from tests.fakes.receiver import Receiver
from tests.faults.rig import Mill, requests
from tests.polling import until


def test_everything_is_killed_before_the_webhook_is_delivered(calm: Process, tmp_path: Path) -> None:
    receiver = Receiver()
    receiver.down()
    home = tmp_path / "home"
    with Mill(home, calm.base_url, GRISTMILL_WEBHOOK_ALLOW_PRIVATE="1", GRISTMILL_WEBHOOK_TIME_SCALE="0.0001") as mill:
        secret = mill.client.get("/v1/webhook_secret").json()["signing_secret"]
        id = mill.submit(requests("hook", 20), webhook_url=receiver.url)
        mill.await_rest(id)
        mill.kill_everything()
        receiver.up()
        mill.start()
        until(lambda: receiver.got, 60)
        [row] = until(lambda: mill.rows("SELECT id FROM delivery WHERE state = 'delivered'"), 60)
        headers, body = receiver.got[0]
        event = openai.OpenAI(api_key="any").webhooks.unwrap(body, headers, secret=secret)
        assert event.type == "batch.completed" and event.data.id == id
        assert set(receiver.ids) == set(row)
    receiver.down()
