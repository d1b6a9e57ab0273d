"""litellm's Router with one deployment, told its limits, eight retries, behind a semaphore."""

import asyncio

import litellm
import openai

from bench.peers import work


async def run(given: work.Given) -> None:
    limits = {name: value for name, value in (("rpm", given.rpm), ("tpm", given.tpm)) if value}
    model = next(given.jobs()).body["model"]
    deployment = {"model": f"openai/{model}", "api_base": given.url, "api_key": given.key, **limits}
    router = litellm.Router(
        model_list=[{"model_name": model, "litellm_params": deployment}], num_retries=work.ATTEMPTS - 1
    )
    semaphore = asyncio.Semaphore(given.at_once)

    async def one(job: work.Job) -> None:
        async with semaphore:
            try:
                answer = await router.acompletion(**job.body)
                given.keep(job, answer.model_dump())
            except (openai.OpenAIError, ValueError):
                given.keep(job, None)

    await asyncio.gather(*map(one, given.jobs()))


if __name__ == "__main__":
    work.main(run)
