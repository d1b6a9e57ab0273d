"""The models that the simulator serves: each family by its name, and every name that starts with it."""

import dataclasses
import functools


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """What a family can do; tokens everywhere."""

    family: str
    endpoints: frozenset[str]
    context: int
    max_output: int = 0
    reasons: bool = False
    dimensions: int = 0


CHAT, TEXT, EMBED = "chat", "text", "embeddings"
FAMILIES = (
    Model(family="tiny", endpoints=frozenset({CHAT, TEXT}), context=128_000, max_output=16_384),
    Model(family="large", endpoints=frozenset({CHAT, TEXT}), context=1_000_000, max_output=32_768),
    Model(family="reasoner", endpoints=frozenset({CHAT}), context=200_000, max_output=100_000, reasons=True),
    Model(family="instruct", endpoints=frozenset({TEXT}), context=4_096, max_output=4_096),
    Model(family="embed", endpoints=frozenset({EMBED}), context=8_192, dimensions=256),
    Model(family="embed-large", endpoints=frozenset({EMBED}), context=8_192, dimensions=1_536),
)


@functools.lru_cache(maxsize=1024)
def find(name: str) -> Model | None:
    """The family with the longest name that `name` starts with."""
    found = [model for model in FAMILIES if name.startswith(model.family)]
    return max(found, key=lambda model: len(model.family), default=None)
