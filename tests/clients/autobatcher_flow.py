"""Single calls that autobatcher gathers into batches: ``autobatcher_flow.py BASE_URL``."""

import asyncio
import importlib.metadata
import sys

from autobatcher import BatchOpenAI

CALLS = 200


async def main() -> None:
    async with BatchOpenAI(
        base_url=sys.argv[1],
        api_key="unused",
        batch_size=CALLS,
        batch_window_seconds=0.5,
        poll_interval_seconds=0.1,
        completion_window="24h",
    ) as client:
        chats = (
            client.chat.completions.create(
                model="lab/tiny", messages=[{"role": "user", "content": f"[[say=answer-{n}]]"}], temperature=0
            )
            for n in range(CALLS)
        )
        vectors = (client.embeddings.create(model="lab/embed", input=f"text {n}") for n in range(CALLS))
        answers, embeddings = await asyncio.gather(asyncio.gather(*chats), asyncio.gather(*vectors))
    assert [one.choices[0].message.content for one in answers] == [f"answer-{n}" for n in range(CALLS)]
    assert len({tuple(one.data[0].embedding) for one in embeddings}) == CALLS


if __name__ == "__main__":
    asyncio.run(main())
    sys.stdout.write(f"autobatcher {importlib.metadata.version('autobatcher')}: all passed\n")
