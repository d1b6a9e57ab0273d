import pytest

from worker import config
from worker.alias_config import Fallback
from worker.routing import ladder, trail

MODELS = config.parse("""
models:
  small: {deployments: [openai/s], fallbacks: {general: [middle, openai/x], context_window: [large]}}
  middle: {deployments: [openai/m], fallbacks: {general: [large]}}
  large: {deployments: [openai/l], fallbacks: {context_window: [openai/xl], content_policy: [small]}}
""").models


@pytest.mark.parametrize(
    ("route", "steps", "kind", "rungs"),
    [
        ("small", [], Fallback.GENERAL, ["middle", "large", "openai/x"]),
        ("small", [(Fallback.GENERAL, "middle")], Fallback.GENERAL, ["large", "openai/x"]),
        ("small", [(Fallback.GENERAL, "middle")], Fallback.CONTEXT_WINDOW, ["large", "openai/xl"]),
        ("small", [(Fallback.GENERAL, "large")], Fallback.CONTEXT_WINDOW, ["openai/xl"]),
        ("small", [(Fallback.GENERAL, "large")], Fallback.CONTENT_POLICY, []),
        ("small", [], Fallback.CONTENT_POLICY, []),
        ("large", [], Fallback.CONTENT_POLICY, ["small"]),
        ("openai/s", [], Fallback.GENERAL, []),
        ("gone", [], Fallback.GENERAL, []),
    ],
)
def test_what_stands_in(route: str, steps: list[tuple[Fallback, str]], kind: Fallback, rungs: list[str]) -> None:
    way = ""
    for step in steps:
        way = trail.onward(way, *step)
    assert list(ladder.rungs(MODELS, route, way, kind)) == rungs


def test_every_way_ends_whatever_fails_in_whatever_order() -> None:
    """Kinds may point at each other; a route is never visited twice."""
    open, longest = [("small", "")], 0
    while open:
        route, way = open.pop()
        longest = max(longest, len(way.splitlines()))
        open += [
            (route, trail.onward(way, kind, one)) for kind in Fallback for one in ladder.rungs(MODELS, route, way, kind)
        ]
    assert 0 < longest <= 4
