"""How a line came to another model than the one it asked for: one step a line of text, ``<kind> <route>``.

The empty trail is where every line begins. The last step names who serves; no route stands on a trail twice.
"""

from worker.alias_config import Fallback


def serving(route: str, trail: str) -> str:
    """The route that serves a line which asked for ``route``."""
    return trail.rpartition("\n")[2].partition(" ")[2] if trail else route


def reason(trail: str) -> str | None:
    """The kind of the last step."""
    return trail.rpartition("\n")[2].partition(" ")[0] or None


def visited(route: str, trail: str) -> frozenset[str]:
    """Everyone who has served the line, or was to."""
    return frozenset((route, *(step.partition(" ")[2] for step in trail.splitlines())))


def onward(trail: str, kind: Fallback, route: str) -> str:
    """The trail with one more step."""
    return "\n".join(filter(None, (trail, f"{kind} {route}")))
