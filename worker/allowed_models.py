"""Which models the holder of an API key may ask for."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from worker.routes import Route, RouteError


class ModelNotAllowed(RouteError):
    """The API key may not use this model."""

    code = "model_not_allowed"


class AllowedModels:
    """A key's patterns; None allows all.

    An alias is allowed by its own name, or if all that it leads to is, with or without fallbacks.
    """

    def __init__(self, key: str, patterns: Sequence[str] | None) -> None:
        self._key = key
        self._patterns = patterns
        self._permitted: set[str] = set()

    def check(self, model: str, route: Route) -> None:
        """``model`` is as asked for. Raises ModelNotAllowed."""
        if self._patterns is None or model in self._permitted:
            return
        leads_to = [*(f"{one.provider}/{one.model}" for one in route.deployments), *route.fallbacks]
        if not (self._matches(model) or self._matches(route.name) or all(map(self._matches, leads_to))):
            raise ModelNotAllowed(
                f"The API key {self._key!r} may not use the model {model!r}, "
                f"only {', '.join(self._patterns) or 'none'}: ask this server's operator."
            )
        self._permitted.add(model)

    def permits(self, model: str, route: Route) -> bool:
        try:
            self.check(model, route)
        except ModelNotAllowed:
            return False
        return True

    def _matches(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self._patterns or ())


EVERYTHING = AllowedModels("", None)
"""For whoever needs no key."""
