"""The input: a batch file whose every line carries a nonce, so that each answer proves whose it is."""

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

FILLER = "Think step by step, and say what you are sure of. "
ANSWER_TOKENS = 48


def write(path: Path, count: int, sizes: Sequence[int], *models: str) -> Path:
    """``sizes`` (characters of the messages) and ``models`` are taken in turn."""
    with path.open("w") as file:
        file.writelines(_lines(count, sizes, models))
    return path


def _lines(count: int, sizes: Sequence[int], models: Sequence[str]) -> Iterator[str]:
    turns = zip(range(count), itertools.cycle(sizes), itertools.cycle(models))
    for number, size, model in turns:
        body = {"model": model, "messages": _messages(number, size), "max_tokens": ANSWER_TOKENS}
        line = {"custom_id": f"r-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
        yield json.dumps(line) + "\n"


def _messages(number: int, size: int) -> list[dict[str, str]]:
    system = "You are a careful grader."
    asked = f"nonce:{number} What is {number} plus {number}? "
    filler = FILLER * (size // len(FILLER) + 1)
    return [
        {"role": "system", "content": system},
        {"role": "user", "content": asked + filler[: max(0, size - len(system) - len(asked))]},
    ]
