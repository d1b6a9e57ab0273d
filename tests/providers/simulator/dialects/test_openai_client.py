"""The official client, sync and async, over real HTTP."""

import asyncio
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from providers.simulator import process

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello nonce:sdk"}]


@pytest.fixture
def client(simulator: process.Process) -> Any:
    with openai.OpenAI(base_url=simulator.base_url, api_key="sk-sdk", max_retries=2) as made:
        yield made


def test_the_sync_client_gets_its_answers(client: openai.OpenAI) -> None:
    made = client.chat.completions.create(model="tiny", messages=HELLO)
    assert made.choices[0].message.content is not None
    assert made.choices[0].message.content.startswith("ack nonce:sdk.")
    assert made._request_id is not None and made._request_id.startswith("req_")
    vectors = client.embeddings.create(model="embed", input=["a", "b"])
    assert len(vectors.data[0].embedding) == 256
    assert client.completions.create(model="tiny", prompt="x").choices[0].text
    assert "tiny" in {model.id for model in client.models.list()}


def test_the_sync_client_reads_a_stream(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model="tiny", messages=HELLO) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].finish_reason == "stop"
    assert (final.choices[0].message.content or "").startswith("ack nonce:sdk.")
    chunks = list(client.completions.create(model="tiny", prompt="x", stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks)


def test_the_async_client_gets_its_answers(simulator: process.Process) -> None:
    async def run() -> list[str]:
        async with openai.AsyncOpenAI(base_url=simulator.base_url, api_key="sk-sdk") as client:
            made = await asyncio.gather(
                *(client.chat.completions.create(model="tiny", messages=[user(n)]) for n in range(50))
            )
            stream = await client.chat.completions.create(model="tiny", messages=HELLO, stream=True)
            pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
        return [each.choices[0].message.content or "" for each in made] + ["".join(pieces)]

    texts = asyncio.run(run())
    assert [text.split(".")[0] for text in texts] == [*(f"ack nonce:n{n}" for n in range(50)), "ack nonce:sdk"]
    assert simulator.stats()["answered"] == 51


def user(number: int) -> ChatCompletionMessageParam:
    return {"role": "user", "content": f"nonce:n{number}"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("status=400", openai.BadRequestError),
        ("status=401", openai.AuthenticationError),
        ("status=403", openai.PermissionDeniedError),
        ("status=404", openai.NotFoundError),
        ("code=insufficient_quota", openai.RateLimitError),
        ("status=500", openai.InternalServerError),
        ("cut", openai.APIConnectionError),
        ("reset", openai.APIConnectionError),
        ("hang=0.01", openai.APIConnectionError),
    ],
)
def test_the_client_raises_its_own_errors(
    simulator: process.Process, words: str, expected: type[openai.OpenAIError]
) -> None:
    client = openai.OpenAI(base_url=simulator.base_url, api_key="sk-sdk", max_retries=0)
    with client, pytest.raises(expected):
        client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": f"[[{words}]]"}])


def test_the_client_waits_as_it_is_told_and_succeeds(client: openai.OpenAI, simulator: process.Process) -> None:
    text = "nonce:patient [[status=429 retry_after_ms=30 times=2]]"
    made = client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": text}])
    assert made.choices[0].finish_reason == "stop"
    stats = simulator.stats(nonces=True)
    assert stats["by_nonce"]["patient"]["calls"] == 3
    assert (stats["early_retries"], stats["repeats"]) == (0, 0)


def test_an_error_in_the_middle_of_a_stream_is_raised(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "[[error]]"}], stream=True
    )
    with pytest.raises(openai.APIError, match="server had an error"):
        list(stream)
