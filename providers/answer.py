"""What came back over HTTP, before anyone has judged it."""

import collections.abc
import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers and the whole decoded body."""

    status_code: int
    headers: collections.abc.Mapping[str, str]  # names in lower case
    body: bytes
