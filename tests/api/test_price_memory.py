import pytest

from api import price_memory
from api.price_memory import NotAtHand, PriceMemory


def test_only_what_was_looked_up_once_is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(price_memory, "MODELS", 1)
    memory = PriceMemory(lambda model: (1, None))
    with pytest.raises(NotAtHand):
        memory.quick("a/b")
    assert memory.look("a/b") == memory.quick("a/b") == (1, None)
    memory.look("a/c")
    with pytest.raises(NotAtHand):
        memory.quick("a/b")
