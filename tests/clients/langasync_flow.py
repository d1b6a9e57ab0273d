"""A LangChain model whose calls langasync sends as one batch: ``langasync_flow.py``, with OPENAI_BASE_URL set."""

import asyncio
import importlib.metadata
import sys
import time

from langasync import batch_chain
from langchain_openai import ChatOpenAI

CALLS = 20


async def main() -> None:
    chain = batch_chain(ChatOpenAI(model="lab/tiny"))
    job = await chain.submit([f"[[say=answer-{n}]]" if n else "[[status=400]]" for n in range(CALLS)])
    deadline = time.monotonic() + 60
    while (found := await job.get_results()).results is None:
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.1)
    assert type(found.results[0]).__name__ == "FailedLLMOutputError", found.results[0]
    assert [one.content for one in found.results[1:]] == [f"answer-{n}" for n in range(1, CALLS)]


if __name__ == "__main__":
    asyncio.run(main())
    sys.stdout.write(f"langasync {importlib.metadata.version('langasync')}: all passed\n")
