"""Another client on the same key: so many calls a second, each once, until its input ends; then it tells its counts."""

import asyncio
import json
import sys

import aiohttp


async def run(url: str, key: str, model: str, per_second: float) -> dict[str, int]:
    counts = {"answered": 0, "refused": 0}
    over = asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    async with aiohttp.ClientSession(headers={"authorization": f"Bearer {key}"}) as session:

        async def one(number: int) -> None:
            message = {"role": "user", "content": f"nonce:other-{number} Another client."}
            body = {"model": model, "messages": [message], "max_tokens": 48}
            async with session.post(f"{url}/chat/completions", json=body) as response:
                await response.read()
                counts["answered" if response.status == 200 else "refused"] += 1

        calls: list[asyncio.Task[None]] = []
        clock = asyncio.get_running_loop().time
        begin = clock()
        while not over.done():
            calls.append(asyncio.create_task(one(len(calls))))
            await asyncio.sleep(max(0.0, begin + len(calls) / per_second - clock()))
        await asyncio.gather(*calls)
    return counts


def main() -> None:
    told = json.loads(sys.stdin.readline())
    print("READY", flush=True)
    sys.stdin.readline()
    print(json.dumps(asyncio.run(run(**told))), flush=True)


if __name__ == "__main__":
    main()
