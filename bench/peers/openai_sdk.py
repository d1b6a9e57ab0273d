"""The OpenAI SDK as most people use it: AsyncOpenAI, a semaphore, its own retries (eight instead of two)."""

import asyncio

import openai

from bench.peers import work


async def run(given: work.Given) -> None:
    client = openai.AsyncOpenAI(base_url=given.url, api_key=given.key, max_retries=work.ATTEMPTS - 1)
    semaphore = asyncio.Semaphore(given.at_once)

    async def one(job: work.Job) -> None:
        async with semaphore:
            try:
                answer = await client.chat.completions.create(**job.body)
                given.keep(job, answer.model_dump())
            except (openai.OpenAIError, ValueError, AttributeError):
                given.keep(job, None)

    async with client:
        await asyncio.gather(*map(one, given.jobs()))


if __name__ == "__main__":
    work.main(run)
