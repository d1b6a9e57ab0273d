"""Files and batches by litellm, sync and async, as its users call them: ``litellm_flow.py BASE_URL``."""

import asyncio
import importlib.metadata
import json
import sys
import time
from typing import Any

import litellm
import openai

LINES = 12
OURS: dict[str, Any] = {"custom_llm_provider": "openai", "api_base": sys.argv[1], "api_key": "unused"}
NEW: dict[str, Any] = {"completion_window": "24h", "endpoint": "/v1/chat/completions", **OURS}


def requests(run: str) -> bytes:
    lines = (
        {
            "custom_id": f"{run}-{n}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {
                "model": "lab/tiny",
                "messages": [{"role": "user", "content": f"[[{'status=400' if n == 0 else f'say=answer-{n}'}]]"}],
            },
        }
        for n in range(LINES)
    )
    return "\n".join(map(json.dumps, lines)).encode()


def sync() -> None:
    file = litellm.create_file(file=("in.jsonl", requests("sync")), purpose="batch", **OURS)
    batch = litellm.create_batch(input_file_id=file.id, metadata={"run": "sync"}, **NEW)
    deadline = time.monotonic() + 60
    while (seen := litellm.retrieve_batch(batch_id=batch.id, **OURS)).status not in ("completed", "failed"):
        assert time.monotonic() < deadline, seen
        time.sleep(0.1)
    check(seen, *(litellm.file_content(file_id=id, **OURS).text for id in (seen.output_file_id, seen.error_file_id)))
    assert batch.id in [one.id for one in litellm.list_batches(limit=5, **OURS).data]
    assert litellm.file_retrieve(file_id=file.id, **OURS).filename == "in.jsonl"
    assert file.id in [one.id for one in litellm.file_list(purpose="batch", **OURS)]
    assert litellm.file_delete(file_id=file.id, **OURS).deleted
    try:
        litellm.cancel_batch(batch_id=batch.id, **OURS)
    except openai.ConflictError:
        return
    raise AssertionError("a batch at rest was cancelled")


async def unsync() -> None:
    file = await litellm.acreate_file(file=("in.jsonl", requests("async")), purpose="batch", **OURS)
    batch = await litellm.acreate_batch(input_file_id=file.id, **NEW)
    deadline = time.monotonic() + 60
    while (seen := await litellm.aretrieve_batch(batch_id=batch.id, **OURS)).status not in ("completed", "failed"):
        assert time.monotonic() < deadline, seen
        await asyncio.sleep(0.1)
    ids = (seen.output_file_id, seen.error_file_id)
    check(seen, *[(await litellm.afile_content(file_id=id, **OURS)).text for id in ids])
    assert batch.id in [one.id for one in (await litellm.alist_batches(limit=5, **OURS)).data]
    assert (await litellm.afile_delete(file_id=file.id, **OURS)).deleted


def check(batch: Any, output: str, errors: str) -> None:
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("completed", LINES - 1, 1)
    answers = [json.loads(line)["response"]["body"]["choices"][0]["message"]["content"] for line in output.splitlines()]
    assert answers == [f"answer-{n}" for n in range(1, LINES)], answers
    assert json.loads(errors)["response"]["status_code"] == 400


if __name__ == "__main__":
    sync()
    asyncio.run(unsync())
    sys.stdout.write(f"litellm {importlib.metadata.version('litellm')}: all passed\n")
