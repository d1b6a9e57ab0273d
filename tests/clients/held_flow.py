"""What the OpenAI SDK does without batches, each answer looked at; run by test_held.py."""

import asyncio
import contextlib
import sys
from typing import Any

import openai

MODEL = "simulator/tiny"
MESSAGES: list[Any] = [{"role": "user", "content": "Grind."}]
TOOLS: list[Any] = [{"type": "function", "function": {"name": "mill", "parameters": {"type": "object"}}}]
USAGE: Any = {"include_usage": True}


def answers(client: openai.OpenAI) -> None:
    found = client.chat.completions.create(model=MODEL, messages=MESSAGES)
    assert found.choices[0].message.content and found.usage and found.usage.completion_tokens
    assert client.embeddings.create(model="simulator/embed", input=["a", "b"]).data[1].embedding
    assert client.completions.create(model=MODEL, prompt="Grind.").choices[0].text


def streams(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=MESSAGES, seed=1).choices[0].message.content
    chunks = list(
        client.chat.completions.create(model=MODEL, messages=MESSAGES, seed=1, stream=True, stream_options=USAGE)
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == whole
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens


def streams_tools(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model=MODEL, messages=MESSAGES, tools=TOOLS, tool_choice="required") as stream:
        message = stream.get_final_completion().choices[0].message
    assert message.tool_calls and message.tool_calls[0].function.name == "mill"


def fails_as_the_provider_would(client: openai.OpenAI) -> None:
    for model, kind in (("nowhere/x", openai.NotFoundError), (MODEL, openai.BadRequestError)):
        try:
            client.chat.completions.create(model=model, messages=MESSAGES, temperature=99)
        except kind as error:
            assert error.body, error
        else:
            raise AssertionError(kind)


def gives_up_and_asks_again(client: openai.OpenAI) -> None:
    """The first try's job is the one that answers the second."""
    head = {"Idempotency-Key": "held-flow-1"}
    impatient = client.with_options(timeout=0.02, max_retries=0)
    with contextlib.suppress(openai.APITimeoutError):
        impatient.chat.completions.create(model=MODEL, messages=MESSAGES, extra_headers=head)
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES, extra_headers=head)
    again = client.chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES, extra_headers=head)
    assert raw.headers["x-gristmill-job"] == again.headers["x-gristmill-job"]
    assert raw.http_response.content == again.http_response.content


def works_concurrently(client: openai.OpenAI) -> None:
    async def main() -> None:
        async with openai.AsyncOpenAI(base_url=client.base_url, api_key="unused") as many:
            calls = [many.chat.completions.create(model=MODEL, messages=MESSAGES, seed=n) for n in range(20)]
            assert len({found.id for found in await asyncio.gather(*calls)}) == 20

    asyncio.run(main())


if __name__ == "__main__":
    sdk = openai.OpenAI(base_url=sys.argv[1], api_key="unused", max_retries=0)
    for step in (
        answers,
        streams,
        streams_tools,
        fails_as_the_provider_would,
        gives_up_and_asks_again,
        works_concurrently,
    ):
        sys.stdout.write(f"{step.__name__}\n")
        step(sdk)
    sys.stdout.write(f"openai {openai.__version__}: all passed\n")
