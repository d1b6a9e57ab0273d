"""Where a line may go next: the fallbacks that its alias lists, and those that they list, each at most once."""

from collections.abc import Iterator, Mapping

from worker.alias_config import AliasConfig, Fallback
from worker.routing import trail as trails


def rungs(models: Mapping[str, AliasConfig], route: str, trail: str, kind: Fallback) -> Iterator[str]:
    """In the order of preference. Nothing for a ``provider/model`` that was asked for as such."""
    if route not in models:
        return
    seen = set(trails.visited(route, trail))
    for start in dict.fromkeys((trails.serving(route, trail), route)):
        for name in _listed(models, start, kind, frozenset()):
            if name not in seen:
                seen.add(name)
                yield name


def _listed(models: Mapping[str, AliasConfig], name: str, kind: Fallback, around: frozenset[str]) -> Iterator[str]:
    """Depth first: what stands in for a stand-in comes right after it."""
    alias = models.get(name)
    if alias is None or name in around:
        return
    for one in alias.fallbacks.of(kind):
        yield one
        yield from _listed(models, one, kind, around | {name})
