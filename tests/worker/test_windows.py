import pytest

from worker import windows
from worker.windows import InvalidWindow


@pytest.mark.parametrize(
    ("window", "seconds"), [("90m", 5_400), ("3d", 259_200), ("36h", 129_600), ("45s", 45), ("1d", 86_400)]
)
def test_a_duration_is_taken_as_said(window: str, seconds: float) -> None:
    assert windows.seconds(window) == seconds


def test_24h_means_the_standard_window_because_clients_can_say_nothing_else() -> None:
    assert windows.seconds("24h") == 7 * 86_400
    assert windows.seconds("24h", standard=86_400) == 86_400


def test_none_is_no_window() -> None:
    assert windows.seconds("none") is None


@pytest.mark.parametrize(
    "window", ["", "h", "0s", "-1h", "24", "1w", "1h30m", "1.5h", "24 h", "9999999999h", "4000d", "٣d"]
)
def test_anything_else_is_refused(window: str) -> None:
    with pytest.raises(InvalidWindow):
        windows.seconds(window)
