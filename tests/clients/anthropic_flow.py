"""All that a user of Anthropic's SDK does with batches, in any version of it: ``python anthropic_flow.py BASE_URL``.

Runs in a process of its own, so that it may import an SDK that is not the installed one. Models are whatever the
server serves.
"""

import sys
import time
from typing import Any

import anthropic

MODELS = ("simulator/tiny", "lab/tiny")
TOOL = {"name": "weather", "description": "Tells the weather", "input_schema": {"type": "object", "properties": {}}}


def request(id: str, text: str, model: str = MODELS[0], **params: Any) -> Any:
    said = [{"role": "user", "content": text}]
    return {"custom_id": id, "params": {"model": model, "max_tokens": 64, "messages": said, **params}}


def poll(batches: Any, id: str) -> Any:
    deadline = time.monotonic() + 60
    while (seen := batches.retrieve(id)).processing_status != "ended":
        counts = seen.request_counts
        assert counts.processing > 0 and counts.succeeded == counts.errored == counts.canceled == 0, counts
        assert time.monotonic() < deadline, seen
        time.sleep(0.1)
    return seen


def runs(batches: Any) -> None:
    """200 requests to models of two providers, and three that are wrong."""
    good = [request(f"r-{n}", f"nonce:an-{n} Hello", MODELS[n % len(MODELS)]) for n in range(200)]
    bad = [
        request("no-model", "x", "nobody/nothing"),
        request("no-limit", "x", max_tokens=None),
        request("top-k", "x", top_k=5),
    ]
    batch = batches.create(requests=good + bad)
    assert (batch.type, batch.processing_status, batch.request_counts.processing) == (
        "message_batch",
        "in_progress",
        203,
    )
    done = poll(batches, batch.id)
    counts = done.request_counts
    assert (counts.processing, counts.succeeded, counts.errored) == (0, 200, 3), counts
    assert done.ended_at is not None and done.ended_at >= done.created_at and done.results_url is not None
    found = {one.custom_id: one.result for one in batches.results(batch.id)}
    assert set(found) == {one["custom_id"] for one in good + bad}
    for one in good:
        message = found[one["custom_id"]].message
        assert message.type == "message" and message.role == "assistant" and message.stop_reason == "end_turn"
        assert message.content[0].type == "text" and message.content[0].text
        assert message.usage.input_tokens > 0 and message.usage.output_tokens > 0
    kinds = {id: found[id].error.error.type for id in ("no-model", "no-limit", "top-k")}
    assert kinds == {
        "no-model": "not_found_error", "no-limit": "invalid_request_error", "top-k": "invalid_request_error"
    }  # fmt: skip
    assert "top_k" in found["top-k"].error.error.message
    assert batches.delete(batch.id).type == "message_batch_deleted"
    try:
        batches.retrieve(batch.id)
    except anthropic.NotFoundError:
        return
    raise AssertionError("a deleted batch is still there")


def speaks_in_blocks(batches: Any) -> None:
    """Tools, images, a system prompt, earlier turns: all that one request may hold."""
    pixel = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "nonce:an-blocks Weather?"}, pixel]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"a": 1}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "sunny"}]},
    ]
    more: Any = {"system": [{"type": "text", "text": "Be brief"}], "temperature": 0.5, "stop_sequences": ["END"]}
    asked = [
        request("turns", "", messages=turns, tools=[TOOL], **more),
        request("call", "nonce:an-call Weather?", tools=[TOOL], tool_choice={"type": "any"}),
        request("short", "nonce:an-short " + "words " * 50, max_tokens=1),
    ]
    batch = batches.create(requests=asked)
    poll(batches, batch.id)
    found = {one.custom_id: one.result for one in batches.results(batch.id)}
    assert all(one.type == "succeeded" for one in found.values()), found
    call = found["call"].message
    assert (call.stop_reason, call.content[-1].type, call.content[-1].name) == ("tool_use", "tool_use", "weather")
    assert isinstance(call.content[-1].input, dict)
    assert found["short"].message.stop_reason == "max_tokens"


def cancels(batches: Any) -> None:
    batch = batches.create(requests=[request(f"s-{n}", f"[[delay=3]] nonce:an-s{n}") for n in range(400)])
    canceling = batches.cancel(batch.id)
    assert canceling.processing_status in ("canceling", "ended") and canceling.cancel_initiated_at is not None
    counts = poll(batches, batch.id).request_counts
    assert counts.canceled > 0 and counts.canceled + counts.succeeded + counts.errored == 400, counts
    kinds = [one.result.type for one in batches.results(batch.id)]
    assert kinds.count("canceled") == counts.canceled and len(kinds) == 400


def lists(batches: Any) -> None:
    made = [batches.create(requests=[request("a", f"nonce:an-l{n}")]).id for n in range(3)]
    seen = [one.id for one in batches.list(limit=2)]
    assert [id for id in seen if id in made] == made[::-1]
    assert batches.list(limit=1, before_id=made[0]).data[0].id == made[1]
    for id in made:
        poll(batches, id)


def errors_are_typed(batches: Any) -> None:
    for call, kind in (
        (lambda: batches.retrieve("msgbatch_none"), anthropic.NotFoundError),
        (lambda: batches.create(requests=[]), anthropic.BadRequestError),
        (lambda: batches.create(requests=[request("a", "x"), request("a", "x")]), anthropic.BadRequestError),
    ):
        try:
            call()
        except kind as error:
            assert error.request_id and error.request_id.startswith("req_"), error
            continue
        raise AssertionError(kind)


if __name__ == "__main__":
    sdk = anthropic.Anthropic(base_url=sys.argv[1], api_key="unused")
    for surface in (sdk.messages.batches, sdk.beta.messages.batches):
        for step in (runs, speaks_in_blocks, cancels, lists, errors_are_typed):
            step(surface)
    sys.stdout.write(f"anthropic {anthropic.__version__}: all passed\n")
