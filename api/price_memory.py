"""Which prices are at hand: a first look may take half a second of CPU, which must not be the loop's."""

from collections.abc import Callable

TokenPrices = Callable[[str], tuple[int | None, int | None]]
MODELS = 4096


class NotAtHand(Exception):
    """The price of this model was never looked up."""


class PriceMemory:
    """``look`` is for threads, ``quick`` for loops."""

    def __init__(self, token_prices: TokenPrices) -> None:
        self._token_prices = token_prices
        self._seen: set[str] = set()

    def look(self, model: str) -> tuple[int | None, int | None]:
        found = self._token_prices(model)
        if len(self._seen) >= MODELS:
            self._seen.clear()
        self._seen.add(model)
        return found

    def quick(self, model: str) -> tuple[int | None, int | None]:
        """Raises NotAtHand."""
        if model not in self._seen:
            raise NotAtHand
        return self._token_prices(model)
