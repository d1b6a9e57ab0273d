"""Whether the answers are those of the lines: each line once, with its own nonce."""

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

NONCE = re.compile(r"nonce:(\d+)")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """``lost``: lines without an answer of their own; an empty answer is one, and counted besides."""

    answered: int
    lost: int
    empty: int
    twice: int
    wrong: int


def audit(lines: int, *files: Path) -> Account:
    """Of batch output files; lines of error files count as nothing."""
    seen, empty, twice, wrong = bytearray(lines), 0, 0, 0
    for number, content in _answers(files):
        found = NONCE.search(content)
        if found and int(found[1]) != number:
            wrong += 1
            continue
        twice += seen[number]
        empty += not content
        seen[number] = 1
    answered = sum(seen)
    return Account(answered=answered, lost=lines - answered, empty=empty, twice=twice, wrong=wrong)


def _answers(files: Iterable[Path]) -> Iterator[tuple[int, str]]:
    for path in files:
        with path.open("rb") as file:
            for line in file:
                row = json.loads(line)
                content = _content(row.get("response"))
                if content is not None:
                    yield int(row["custom_id"].removeprefix("r-")), content


def _content(response: Any) -> str | None:
    if not response or response.get("status_code", 200) != 200:
        return None
    try:
        return response["body"]["choices"][0]["message"]["content"] or ""
    except (KeyError, IndexError, TypeError):
        return None
